// n8n's own look at a flow: node n8n.cjs FLOW, in a folder that has n8n-workflow and, unpacked as
// `package`, n8n-nodes-base. On stdout JSON: what does not fit, and what each expression gives.
const { readFileSync } = require("node:fs");
const { createRequire } = require("node:module");

const { NodeHelpers, Workflow } = createRequire(`${process.cwd()}/`)("n8n-workflow");
const types = JSON.parse(readFileSync("package/dist/types/nodes.json"));
const { flow, came } = JSON.parse(readFileSync(0));
const versions = (type) => [type.version].flat();
const find = (name, version) =>
  types.find((each) => `n8n-nodes-base.${each.name}` === name && versions(each).includes(version));

const problems = [];
for (const node of flow.nodes) {
  const type = find(node.type, node.typeVersion);
  if (!type) {
    problems.push(`${node.name}: there is no ${node.type} ${node.typeVersion}`);
    continue;
  }
  const known = NodeHelpers.getNodeParameters(type.properties, node.parameters, true, false, node, type);
  const whole = { ...node, parameters: known };
  const issues = NodeHelpers.getNodeParametersIssues(type.properties, whole, type);
  if (issues) problems.push(`${node.name}: ${JSON.stringify(issues)}`);
  for (const name of Object.keys(node.parameters)) {
    if (!(name in known)) problems.push(`${node.name}: ${name} is not shown, or not known`);
  }
}

const nodeTypes = {
  getByName: () => undefined,
  getByNameAndVersion: (name, version) => ({ description: find(name, version) }),
  getKnownTypes: () => ({}),
};
const workflow = new Workflow({ ...flow, id: "flow", active: false, nodeTypes });
const before = Object.fromEntries(
  Object.entries(flow.connections).flatMap(([name, { main }]) => main.flat().map((to) => [to.node, name])),
);
before.Wait = "Run";
const runData = {};
for (const [name, json] of Object.entries(came)) {
  const source = before[name] ? [{ previousNode: before[name] }] : [];
  const items = [{ json, pairedItem: { item: 0 } }];
  runData[name] = [{ startTime: 0, executionTime: 0, executionIndex: 0, source, data: { main: [items] } }];
}
const values = {};
function read(node, value) {
  if (value && typeof value === "object") return Object.values(value).forEach((each) => read(node, each));
  if (typeof value !== "string" || !value.startsWith("=")) return;
  const input = runData[before[node.name]]?.[0].data.main[0] ?? [];
  const source = { main: [{ previousNode: before[node.name] }] };
  const more = { $execution: { id: "17", mode: "test" } };
  values[value] = workflow.expression.resolveSimpleParameterValue(
    value, {}, { resultData: { runData } }, 0, 0, node.name, input, "manual", more,
    { node, data: { main: [input] }, source },
  );
}
for (const node of flow.nodes) read(node, node.parameters);
const reached = workflow.getChildNodes("Start").sort();
process.stdout.write(JSON.stringify({ problems, values, reached }));
