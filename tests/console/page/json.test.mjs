/** Inputs and outputs are shown whole, and with nothing in them that hides. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { parsed, pretty } from "./json.js";

test("a value is shown on lines of its own, keys and texts escaped", () => {
  const { text, exact } = pretty({ "k\u202e": ["a\n", 1, null, true], e: {}, l: [] });
  assert.equal(text, `{
  "k\\u202e": [
    "a\\n",
    1,
    null,
    true
  ],
  "e": {},
  "l": []
}`);
  assert.ok(exact);
});

test("a text that looks escaped is not taken for one that is", () => {
  assert.notEqual(pretty("\\u202e").text, pretty("\u202e").text);
});

test("what is shown is the value again", () => {
  const value = { a: [1.5, -0.1, "\u2028", { b: "\ud800" }], c: 1e21 };
  assert.deepEqual(JSON.parse(pretty(value).text), value);
});

test("a number that a browser rounds is told", () => {
  assert.ok(!pretty({ n: [JSON.parse("9007199254740993")] }).exact);
  assert.ok(!pretty(JSON.parse("1e400")).exact);
  assert.match(parsed("[9007199254740993]").problem, /rounds/);
});

test("what is typed is read, or says why not", () => {
  assert.deepEqual(parsed('{"a":1}'), { value: { a: 1 } });
  assert.match(parsed("{").problem, /^is not JSON/);
});
