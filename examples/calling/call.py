"""A video by the Python client:  python call.py me.jpg hello.wav me.mp4 [--draft]

ENDPOINT_ID and RUNPOD_API_KEY name the endpoint; or TALKINGHEAD_URL that of `talkinghead serve`,
and TALKINGHEAD_TOKEN its API_TOKEN, if it has one.
"""

import os
import sys

from talkinghead_client import Client, JobFailed, JobState, S3Bucket, TalkingheadError


def show(state: JobState) -> None:
    """Print how far it is."""
    if state.progress:
        print(f"{state.progress['percent']} % {state.progress['message']}")
    else:
        print(state.status)


get = os.environ.get
url = get("TALKINGHEAD_URL")  # before ENDPOINT_ID, if both are set
if len(sys.argv) < 4 or not (url or get("ENDPOINT_ID")):
    sys.exit(__doc__)
picture, voice, out, *options = sys.argv[1:]
try:
    client = Client(
        endpoint_id=None if url else get("ENDPOINT_ID"),
        url=url,
        api_key=get("TALKINGHEAD_TOKEN", "") if url else None,
        storage=S3Bucket.from_env(),  # for files of more than 7 MB; None without S3_BUCKET
        poll_seconds=float(get("POLL_SECONDS", "2")),
    )
    result = client.render(
        {"draft": "--draft" in options, "resolution": "480p"},
        files={"image_url": picture, "wav_url": voice},
        on_progress=show,
    )
    client.save(result, out)
except JobFailed as error:
    sys.exit(f"{error.code}: {error}{' (try again later)' if error.retryable else ''}")
except (TalkingheadError, OSError, ValueError) as error:
    sys.exit(f"{type(error).__name__}: {error}")
print(f"{out}: {result.output['video_info']['duration_seconds']} s, cost {result.cost}")
for warning in result.warnings:
    print(f"note: {warning}")
