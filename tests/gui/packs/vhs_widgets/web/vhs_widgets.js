// A stand-in for VideoHelperSuite's own JavaScript, as far as a workflow file shows it: its nodes
// keep their widgets by name, and VHS_VideoCombine has the widgets of the chosen format.
import { app } from '../../scripts/app.js'

const after = (object, method, extra) => {
  const original = object[method]
  object[method] = function (...args) {
    const result = original?.apply(this, args)
    extra.apply(this, args)
    return result
  }
}

function showFormat(node, formats) {
  const format = node.widgets.find((widget) => widget.name === 'format')
  const wanted = formats[format.value] ?? []
  for (const name of node.formatWidgets ?? []) {
    node.widgets = node.widgets.filter((widget) => widget.name !== name)
    const socket = node.inputs.findIndex((input) => input.name === name)
    if (socket >= 0 && !wanted.some((spec) => spec[0] === name)) node.removeInput(socket)
  }
  node.formatWidgets = wanted.map((spec) => spec[0])
  const added = wanted.map(([name, type, options]) => {
    const kind = Array.isArray(type) ? 'COMBO' : type
    app.widgets[kind](node, name, [type, options ?? {}], app)
    if (!node.inputs.some((input) => input.name === name)) {
      node.addInput(name, kind, { widget: { name } })
    }
    return node.widgets.pop()
  })
  node.widgets.splice(node.widgets.indexOf(format) + 1, 0, ...added)
  node.setSize([node.size[0], Math.max(node.size[1], node.computeSize()[1])])
}

app.registerExtension({
  name: 'talkinghead.test.vhsWidgets',
  beforeRegisterNodeDef(nodeType, nodeData) {
    if (!nodeData.name.startsWith('VHS_')) return
    const formats = nodeData.input?.required?.format?.[1]?.formats
    if (formats) {
      after(nodeType.prototype, 'onNodeCreated', function () {
        const format = this.widgets.find((widget) => widget.name === 'format')
        after(format, 'callback', () => showFormat(this, formats))
        showFormat(this, formats)
      })
    }
    after(nodeType.prototype, 'onConfigure', function ({ widgets_values: values }) {
      if (!values || Array.isArray(values)) return
      const set = () => {
        for (const widget of this.widgets ?? []) {
          if (widget.name in values) widget.value = values[widget.name]
        }
      }
      set()
      if (formats) {
        showFormat(this, formats)
        set()
      }
    })
    after(nodeType.prototype, 'onSerialize', function (saved) {
      const widgets = (this.widgets ?? []).filter((widget) => widget.serialize !== false)
      saved.widgets_values = Object.fromEntries(widgets.map((each) => [each.name, each.value]))
    })
  }
})
