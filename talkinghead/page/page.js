// A voice from the microphone: recorded here, and sent as if it had been chosen as a file.
let recording = null

async function startRecording() {
  if (!navigator.mediaDevices) return "browsers record on https:// and on this machine's own pages."
  try {
    const stream = await navigator.mediaDevices.getUserMedia({ audio: true })
    const known = ["audio/webm;codecs=opus", "audio/mp4"]
    const mimeType = known.find((type) => MediaRecorder.isTypeSupported(type))
    const recorder = new MediaRecorder(stream, { mimeType })
    recording = { recorder, stream, pieces: [] }
    recorder.ondataavailable = (event) => recording.pieces.push(event.data)
    recorder.start()
    return ""
  } catch (error) {
    return error.name === "NotAllowedError" ? "the browser does not allow it." : error.message
  }
}

async function stopRecording(uploaderId) {
  const { recorder, stream, pieces } = recording
  await new Promise((done) => { recorder.onstop = done; recorder.stop() })
  for (const track of stream.getTracks()) track.stop()
  const type = recorder.mimeType.split(";")[0]
  const name = `recording.${type === "audio/mp4" ? "m4a" : "webm"}`
  getElement(uploaderId).$refs.qRef.addFiles([new File(pieces, name, { type })])
}

// The windows that are done. A browser plays what the playlist had when it was opened, and before
// the first window there is none: it is opened again, and goes on where it was.
function watchOn(event) {
  const video = event.target
  if (event.type === "error" && !video.canPlayType("application/vnd.apple.mpegurl")) {
    video.hidden = true
    video.nextElementSibling.hidden = false
    return
  }
  const from = Number(video.dataset.from ?? 0)
  if (event.type === "loadedmetadata" && video.duration > from + 0.1) {
    video.currentTime = from
    video.play()
    return
  }
  if (event.type === "ended") video.dataset.from = video.currentTime
  setTimeout(() => video.isConnected && video.load(), 2000)
}

// A card that was in sight, when it has grown; nobody who looks elsewhere is taken from there.
function bringIntoView(withinId, block) {
  const card = getHtmlElement(withinId).closest("section")
  const { top, bottom } = card.getBoundingClientRect()
  const isSeen = top < innerHeight && bottom > 0
  if (block === "nearest" || isSeen) setTimeout(() => card.scrollIntoView({ block }), 200)
}

// The list has been built anew, and with it went the button that was pressed: the next key is for
// what took its place.
function focusWithin(listId, index) {
  setTimeout(() => {
    const voice = getHtmlElement(listId).children[index]
    const next = voice?.querySelector("input") ?? voice?.querySelector("button.small")
    next?.focus({ preventScroll: true })
  })
}
