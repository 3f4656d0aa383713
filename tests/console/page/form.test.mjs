/** What a schema becomes, and that a form and JSON are two views of one value. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { blank, formOf, typedFrom, valueOf } from "./form.js";

const object = (properties, required = [], more = {}) =>
  ({ type: "object", properties, required, additionalProperties: false, ...more });
const optional = (schema) => ({ anyOf: [schema, { type: "null" }], default: null });
const LIMITS = object({ mib: { type: "number" }, note: { type: "string", default: "" } }, ["mib"]);
const SCAN = {
  $ref: "#/$defs/Scan",
  $defs: {
    Scan: object({
      path: { type: "string", minLength: 1 },
      home: { type: "string", format: "uri" },
      mode: { enum: ["fast", "deep"] },
      depth: { type: "integer", minimum: 1, maximum: 5, default: 3 },
      verify: { type: "boolean", default: true },
      tags: { type: "array", items: { type: "string" }, default: [] },
      limits: { $ref: "#/$defs/Limits" },
      quota: optional({ $ref: "#/$defs/Limits" }),
      strict: optional({ type: "boolean" }),
      level: { enum: [null, 1, 2], default: null },
    }, ["path", "mode", "limits"], { title: "Scan", description: "Scans." }),
    Limits: LIMITS,
  },
};
const { fields, help } = formOf(SCAN);
const filled = (more = {}) =>
  ({ ...blank(fields), path: "/srv", mode: '"fast"', limits: { mib: "4", note: "" }, ...more });
const problemsOf = (typed) =>
  Object.fromEntries(valueOf(fields, typed).problems.map((each) => [each.field, each.problem]));

test("every kind of field of the profile is known", () => {
  const kinds = Object.fromEntries(fields.map((each) => [each.name, each.kind]));
  assert.deepEqual(kinds, {
    path: "text", home: "text", mode: "choice", depth: "number", verify: "flag", tags: "lines",
    limits: "group", quota: "group", strict: "choice", level: "choice",
  });
  assert.equal(help, "Scans.");
  assert.deepEqual(fields.filter((each) => each.required).map((each) => each.name), ["path", "mode", "limits"]);
  assert.deepEqual(fields.filter((each) => each.nullable).map((each) => each.name), ["quota", "strict", "level"]);
});

test("what must be filled in comes first, the rest stays in its order", () => {
  const text = { type: "string" };
  const names = (schema) => formOf(schema).fields.map((each) => each.name);
  assert.deepEqual(names(object({ a: text, b: text, y: text, z: text }, ["z", "y"])), ["y", "z", "a", "b"]);
  assert.deepEqual(names(object({ a: text, b: text })), ["a", "b"]);
});

test("anything else gives no form", () => {
  const others = [
    {}, { type: "string" }, { type: "array", items: { type: "string" } },
    object({ a: {} }), object({ a: { type: "array", items: object({}) } }),
    object({ a: { type: "object", additionalProperties: { type: "integer" } } }),
    object({ a: object({ b: object({}) }) }),
    object({ a: { anyOf: [{ type: "string" }, { type: "integer" }] } }),
    object({ a: { $ref: "#/$defs/None" } }), { $ref: "https://example.org/schema" },
    { $ref: "#/$defs/Loop", $defs: { Loop: { $ref: "#/$defs/Loop" } } },
    { type: "object", properties: {}, additionalProperties: { type: "string" } },
  ];
  for (const schema of others) assert.equal(formOf(schema), null, JSON.stringify(schema));
});

test("a hostile schema gives no form and nothing worse", () => {
  const proto = JSON.parse('{"type":"object","properties":{"__proto__":{"type":"string"}}}');
  for (const schema of [
    proto, object({ constructor: { type: "string" } }), object({ a: true }), object({ a: false }),
    { $ref: "#/$defs/toString" }, { $ref: "#/$defs/__proto__", $defs: {} }, { $ref: "#/$defs/a", $defs: { a: true } },
    object({ a: { type: "array", items: true } }), object({ a: { anyOf: [true, { type: "null" }] } }),
    object({ a: { type: "string" } }, [], { if: {}, then: {} }), true, [], null,
  ]) assert.equal(formOf(schema), null, JSON.stringify(schema));
});

test("a field is named as the gateway names it", () => {
  const { fields: odd } = formOf(object({
    "a b": { type: "integer" }, "x.y": object({ z: { type: "string" } }), [`${"n".repeat(41)}`]: { type: "string" },
  }, ["a b", "x.y"]));
  assert.deepEqual(odd.map((each) => each.path), [
    'input["a b"]', 'input["x.y"]', `input["${"n".repeat(41)}"]`,
  ]);
  assert.equal(odd[1].fields[0].path, 'input["x.y"].z');
});

test("a pattern is a device's word: it is shown and never run", () => {
  const [code] = formOf(object({ code: { type: "string", pattern: "^(a+)+$" } }, ["code"])).fields;
  assert.equal(code.pattern, "^(a+)+$");
  const typed = { code: `${"a".repeat(40)}!` };
  assert.deepEqual(valueOf([code], typed), { value: typed, problems: [] });
});

test("no field at all is a form", () => {
  assert.deepEqual(formOf(object({})).fields, []);
  assert.deepEqual(valueOf([], {}), { value: {}, problems: [] });
});

test("a form begins with the defaults", () => {
  const typed = blank(fields);
  assert.deepEqual([typed.depth, typed.verify, typed.path, typed.mode, typed.tags], ["3", true, "", "", ""]);
  assert.deepEqual(typed.limits, { mib: "", note: "" });
});

test("what is left empty is left out, and what is owed is named", () => {
  assert.deepEqual(valueOf(fields, filled()),
    { value: { path: "/srv", mode: "fast", depth: 3, verify: true, limits: { mib: 4 } }, problems: [] });
  assert.deepEqual(problemsOf(blank(fields)), {
    "input.path": "is required", "input.mode": "is required", "input.limits.mib": "is required",
  });
});

test("each kind is checked, and named by its path", () => {
  for (const [more, problem] of [
    [{ depth: "9" }, { "input.depth": "must be at most 5" }],
    [{ depth: "0" }, { "input.depth": "must be at least 1" }],
    [{ depth: "1.5" }, { "input.depth": "must be a whole number" }],
    [{ depth: "0x3" }, { "input.depth": "must be a number" }],
    [{ home: "example" }, { "input.home": "must be an address, as https://..." }],
    [{ quota: { mib: "", note: "x" } }, { "input.quota.mib": "is required" }],
    [{ limits: { mib: "9007199254740993", note: "" } },
      { "input.limits.mib": "is more than a browser can count; use the CLI" }],
  ]) assert.deepEqual(problemsOf(filled(more)), problem);
});

test("lines are one value each", () => {
  assert.deepEqual(valueOf(fields, filled({ tags: "a\r\n\nb \n" })).value.tags, ["a", "b "]);
  const numbers = formOf(object({ n: { type: "array", items: { type: "integer" } } }, ["n"])).fields;
  assert.deepEqual(valueOf(numbers, { n: "" }).value, { n: [] });
  assert.deepEqual(valueOf(numbers, { n: "1\nx" }).problems,
    [{ field: "input.n", problem: "line 2 must be a number" }]);
});

test("a choice keeps its type, and null is what is not given", () => {
  const { value } = valueOf(fields, filled({ level: "2", strict: "false" }));
  assert.deepEqual([value.level, value.strict], [2, false]);
  const owed = formOf(object({ n: { anyOf: [{ type: "string" }, { type: "null" }] } }, ["n"])).fields;
  assert.deepEqual(valueOf(owed, { n: "" }).value, { n: null });
});

test("a value of the form comes back from what is typed for it", () => {
  for (const value of [
    { path: "/srv", mode: "deep", limits: { mib: 0.5 }, verify: false },
    { path: "/srv", mode: "deep", limits: { mib: 1, note: "n" }, verify: true, tags: ["a", "b"],
      quota: { mib: 2 }, strict: true, level: 1, home: "https://example.org/", depth: 5 },
  ]) assert.deepEqual(valueOf(fields, typedFrom(fields, value)), { value, problems: [] });
});

test("a value that a form would change stays JSON", () => {
  const good = { path: "/srv", mode: "deep", limits: { mib: 1 } };
  for (const more of [
    { other: 1 }, { path: "a\nb" }, { tags: ["a\nb"] }, { tags: [""] }, { tags: "a" }, { mode: "slow" },
    { limits: [] }, { depth: "3" }, { home: null },
  ]) assert.equal(typedFrom(fields, { ...good, ...more }), null, JSON.stringify(more));
  for (const value of [null, [], "text", 1]) assert.equal(typedFrom(fields, value), null);
});

test("null where it is the default, and a flag that is not said, mean the same", () => {
  const typed = typedFrom(fields, { path: "/srv", mode: "fast", limits: { mib: 4 }, quota: null, strict: null });
  assert.deepEqual(valueOf(fields, typed).value,
    { path: "/srv", mode: "fast", verify: true, limits: { mib: 4 } });
});

test("a value that is out of bounds is shown, with what is wrong", () => {
  const typed = typedFrom(fields, { path: "/srv", mode: "fast", limits: { mib: 4 }, depth: 99 });
  assert.deepEqual(problemsOf(typed), { "input.depth": "must be at most 5" });
});
