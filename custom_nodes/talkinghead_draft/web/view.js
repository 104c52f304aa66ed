// Newer frontends open a template fitted into the window, too small to read: ours open where their
// file says, on the note.
import { app } from '../../scripts/app.js'

const opened = new Set() // a tab that is shown again is left where it was

app.registerExtension({
  name: 'talkinghead.view',
  afterConfigureGraph() {
    const { id, extra, _nodes } = app.graph
    const isOurs = _nodes.some((node) => node.type?.startsWith('TalkingHead'))
    if (!extra?.ds || !isOurs || opened.has(id)) return
    opened.add(id)
    if (!app.extensionManager.setting.get('Comfy.EnableWorkflowViewRestore')) return
    app.canvas.ds.scale = extra.ds.scale
    app.canvas.ds.offset = [...extra.ds.offset]
    app.canvas.setDirty(true, true)
  }
})
