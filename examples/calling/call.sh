#!/bin/sh
# A video by curl and jq alone:  ENDPOINT_ID=… RUNPOD_API_KEY=… ./call.sh me.jpg hello.wav me.mp4
# TALKINGHEAD_URL=http://127.0.0.1:8000 calls `talkinghead serve` instead, TALKINGHEAD_TOKEN is then its
# API_TOKEN, if it has one; DRAFT=true asks for a draft.
set -eu
picture=${1:?a picture, a voice, and where the video goes} voice=${2:?a voice} out=${3:?where it goes}
if [ -n "${TALKINGHEAD_URL:-}" ]; then
    url=$TALKINGHEAD_URL token=${TALKINGHEAD_TOKEN:-none} # RunPod's key is nobody else's to see
else
    url=https://api.runpod.ai/v2/${ENDPOINT_ID:?or TALKINGHEAD_URL} token=${RUNPOD_API_KEY:?is not set}
fi
key="Authorization: Bearer $token"
state=$(mktemp)
trap 'rm -f "$state"' EXIT

as_data() { # a file as a data: URI; 7 MB of files fit into a request
    printf 'data:%s;base64,' "$2"
    base64 <"$1" | tr -d '\n'
}

# Sent once: whoever gets no answer does not know whether the job was started.
{
    printf '{"input": {"draft": %s, "image_url": "' "${DRAFT:-false}"
    as_data "$picture" image/jpeg
    printf '", "wav_url": "'
    as_data "$voice" audio/wav
    printf '"}}'
} | curl --fail-with-body --silent --show-error "$url/run" \
    --header "$key" --header 'Content-Type: application/json' --data-binary @- >"$state" || {
    cat "$state" >&2 # why it is refused; where that is nothing, the job may have been started
    exit 1
}
job=$(jq --raw-output --exit-status .id "$state")
trap 'curl --silent --request POST --header "$key" "$url/cancel/$job"; exit 130' INT

silent=0
while :; do
    # A poll that fails is no end of the job: the next one tells. Ten in a row: it is not known there.
    if curl --fail --silent --show-error --retry 5 --header "$key" "$url/status/$job" >"$state"; then
        silent=0
    else
        silent=$((silent + 1))
        [ "$silent" -lt 10 ] || exit 1
    fi
    case $(jq --raw-output .status "$state") in
        COMPLETED) break ;;
        FAILED | CANCELLED | TIMED_OUT)
            jq --raw-output '"\(.status): \(.error) (\(.output.error_code))"' "$state" >&2
            exit 1
            ;;
    esac
    jq --raw-output '"\(.status) \(.output.percent // 0) % \(.output.message // "")"' "$state" >&2
    sleep "${POLL_SECONDS:-2}"
done

if jq --exit-status .output.video_url "$state" >/dev/null; then # a bucket's
    curl --fail --silent --show-error --location "$(jq --raw-output .output.video_url "$state")" >"$out"
elif jq --exit-status .output.video "$state" >/dev/null; then # in the result itself
    jq --raw-output .output.video "$state" | cut -d, -f2 | base64 -d >"$out"
else
    jq '.output | {status, video_path, uploaded_to}' "$state" >&2
    exit 1
fi
jq --raw-output '.output.warnings[]' "$state" >&2
