/**
 * A capability's JSON Schema as a form: which fields there are, what is typed into them as a
 * value, and a value as what is typed.  Pure: the view draws it.
 *
 * A field is `{name, path, kind, label, help, required, nullable, fallback}`, and by kind
 * - text: `{minLength, maxLength, pattern, url}`; the pattern is a device's word: it is shown, and
 *   run where it is bounded, not here
 * - number: `{whole, min, max, above, below}`
 * - flag: a boolean that is typed as true or false
 * - choice: `{choices}`, values of any kind, typed as their JSON
 * - lines: `{item}`, a field of kind text or number; one a line
 * - group: `{fields}`, one level deep
 *
 * `path` is that of `validation_errors[].field`: `input.url`, `input["a b"]`.
 *
 * A schema is a device's word, of the profile that the gateway takes: it chooses what is drawn, and
 * names nothing of JavaScript's own.
 */

const ROOT = "input";
const TOO_DEEP = 8;
/** Keywords by which an object's fields depend on each other. */
const BEYOND = ["anyOf", "oneOf", "allOf", "not", "if", "patternProperties", "dependentSchemas"];

/** The form of a schema, `{fields, help}`; null where it cannot be one: then there is only JSON. */
export function formOf(schema) {
  const top = resolved(schema, schema);
  const fields = top && groupFields(top, schema, ROOT, 1);
  return fields && { fields, help: top.description ?? "" };
}

const pathOf = (path, name) => /^[\w-]{1,40}$/.test(name) ? `${path}.${name}` : `${path}["${name}"]`;

const isObject = (node) => node !== null && typeof node === "object" && !Array.isArray(node);

/** Follow `$ref` to `#/$defs/NAME`; null where that leads nowhere, or to a schema that is a word. */
function resolved(node, schema) {
  let found = isObject(node) ? node : null;
  for (let depth = 0; found && "$ref" in found; depth += 1) {
    const name = /^#\/\$defs\/([^/]+)$/.exec(found.$ref)?.[1];
    if (name === undefined || depth > TOO_DEEP) return null;
    const { $ref, ...beside } = found;
    const target = Object.hasOwn(schema.$defs ?? {}, name) ? schema.$defs[name] : null;
    found = isObject(target) ? { ...target, ...beside } : null;
  }
  return found ?? null;
}

function groupFields(node, schema, path, levels) {
  const known = node.type === "object" && node.properties && !node.additionalProperties;
  if (!known || BEYOND.some((keyword) => keyword in node)) return null;
  if (Object.keys(node.properties).some((name) => name in Object.prototype)) return null;
  const required = new Set(node.required ?? []);
  const fields = Object.entries(node.properties).map(([name, inner]) =>
    fieldOf(name, inner, schema, pathOf(path, name), required.has(name), levels));
  // Descriptors have their fields by name; what must be filled in is not left for the end.
  return fields.every(Boolean) ? fields.sort((one, other) => other.required - one.required) : null;
}

function fieldOf(name, node, schema, path, required, levels) {
  const outer = resolved(node, schema);
  if (!outer) return null;
  const [inner, nullable] = withoutNull(outer, schema);
  let kind = inner && kindOf(inner, schema, path, levels);
  if (kind?.kind === "flag" && nullable) kind = { kind: "choice", choices: [true, false] };
  return kind && {
    name, path, required, nullable, ...kind,
    label: outer.title && outer.title !== inner.title ? outer.title : name,
    help: outer.description ?? inner.description ?? "",
    fallback: outer.default,
  };
}

/** What is left of `anyOf: [X, null]`, and whether null was in it. */
function withoutNull(node, schema) {
  if (Array.isArray(node.enum) && node.enum.includes(null)) {
    return [{ ...node, enum: node.enum.filter((each) => each !== null) }, true];
  }
  if (!node.anyOf) return [node, false];
  const rest = node.anyOf.filter((each) => each.type !== "null");
  return rest.length === 1 && node.anyOf.length === 2
    ? [resolved(rest[0], schema), true] : [null, false];
}

function kindOf(node, schema, path, levels) {
  if (node.oneOf || node.allOf || node.anyOf || node.not) return null;
  if ("const" in node) return { kind: "choice", choices: [node.const] };
  if (Array.isArray(node.enum)) {
    return node.enum.length ? { kind: "choice", choices: node.enum } : null;
  }
  if (node.type === "boolean") return { kind: "flag" };
  if (node.type === "array") return linesOf(node, schema, path);
  if (node.type === "object" && levels > 0) {
    const fields = groupFields(node, schema, path, levels - 1);
    return fields && { kind: "group", fields };
  }
  return scalarOf(node);
}

function scalarOf(node) {
  if (node.type === "string") {
    const { minLength, maxLength, pattern } = node;
    return { kind: "text", minLength, maxLength, pattern, url: node.format === "uri" };
  }
  if (node.type !== "integer" && node.type !== "number") return null;
  return {
    kind: "number", whole: node.type === "integer", min: node.minimum, max: node.maximum,
    above: node.exclusiveMinimum, below: node.exclusiveMaximum,
  };
}

function linesOf(node, schema, path) {
  const item = node.items && resolved(node.items, schema);
  const scalar = !node.prefixItems && item && !item.enum && scalarOf(item);
  return scalar ? { kind: "lines", item: { ...scalar, path, required: true } } : null;
}

// -- from what is typed to a value ------------------------------------------------------------

/** What a form begins with: the `fallback` of each field, or nothing typed. */
export const blank = (fields) => Object.fromEntries(fields.map((each) =>
  [each.name, typedOf(each, each.fallback) ?? (isOwed(each) ? blank(each.fields) : bare(each))]));

const isOwed = (field) => field.kind === "group" && field.required;

/** Nothing typed; flags, which always say something, as they are where nobody asks. */
const bare = (field) => field.kind === "group" ? typedFrom(field.fields, {})
  : field.kind === "flag" ? field.fallback === true : "";

const isBare = (field, typed) => field.kind === "group"
  ? field.fields.every((each) => isBare(each, typed?.[each.name] ?? bare(each)))
  : typed === bare(field);

/**
 * The value of what is typed, `{value, problems: [{field, problem}]}`.  What is left empty and not
 * required is left out; a text that is required may be empty.
 */
export function valueOf(fields, typed) {
  const value = {};
  const problems = [];
  for (const field of fields) {
    const read = readField(field, typed[field.name]);
    problems.push(...(read.problems ?? []));
    if ("value" in read) value[field.name] = read.value;
  }
  return { value, problems };
}

const wrong = (field, problem) => ({ problems: [{ field: field.path, problem }] });

function readField(field, typed) {
  if (field.kind === "flag") return { value: Boolean(typed) };
  if (field.kind === "group") return readGroup(field, typed ?? {});
  if (field.kind === "lines") return readLines(field, typed ?? "");
  if (!typed && (!field.required || field.nullable)) return field.required ? { value: null } : {};
  if (!typed && (field.kind !== "text" || field.url)) return wrong(field, "is required");
  if (field.kind === "choice") return readChoice(field, typed);
  return field.kind === "number" ? readNumber(field, typed) : readText(field, typed ?? "");
}

function readChoice(field, typed) {
  const found = field.choices.filter((each) => JSON.stringify(each) === typed);
  return found.length ? { value: found[0] } : wrong(field, "is not one of the choices");
}

function readGroup(field, typed) {
  const left = isBare(field, typed) && (!field.required || field.nullable);
  return left ? (field.required ? { value: null } : {}) : valueOf(field.fields, typed);
}

function readLines(field, typed) {
  const lines = typed.split("\n").map((each) => each.replace(/\r$/, "")).filter(Boolean);
  if (!lines.length && !field.required) return {};
  const read = lines.map((line) => readField(field.item, line));
  const bad = read.findIndex((each) => each.problems);
  return bad < 0
    ? { value: read.map((each) => each.value) }
    : wrong(field, `line ${bad + 1} ${read[bad].problems[0].problem}`);
}

function readNumber(field, typed) {
  const text = typed.trim();
  const number = Number(text);
  if (!/^[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?$/i.test(text) || !Number.isFinite(number)) {
    return wrong(field, "must be a number");
  }
  if (field.whole && !Number.isInteger(number)) return wrong(field, "must be a whole number");
  if (Number.isInteger(number) && !Number.isSafeInteger(number)) {
    return wrong(field, "is more than a browser can count; use the CLI");
  }
  if (number < field.min) return wrong(field, `must be at least ${field.min}`);
  if (number > field.max) return wrong(field, `must be at most ${field.max}`);
  if (number <= field.above) return wrong(field, `must be more than ${field.above}`);
  if (number >= field.below) return wrong(field, `must be less than ${field.below}`);
  return { value: number };
}

function readText(field, typed) {
  const length = [...typed].length;
  if (field.url && !URL.canParse(typed)) return wrong(field, "must be an address, as https://...");
  if (length < field.minLength) {
    return wrong(field, typed ? `must have ${field.minLength} characters` : "is required");
  }
  if (length > field.maxLength) return wrong(field, `must have at most ${field.maxLength} characters`);
  return { value: typed };
}

// -- from a value to what is typed ------------------------------------------------------------

/** What would have to be typed for a value; null where the form cannot say it. */
export function typedFrom(fields, value) {
  if (value === null || typeof value !== "object" || Array.isArray(value)) return null;
  const known = new Set(fields.map((each) => each.name));
  if (Object.keys(value).some((name) => !known.has(name))) return null;
  const typed = fields.map((each) =>
    [each.name, Object.hasOwn(value, each.name) ? typedOf(each, value[each.name]) : bare(each)]);
  return typed.some(([, text]) => text === null) ? null : Object.fromEntries(typed);
}

/** What is typed for one value; null where reading it again would give another one. */
function typedOf(field, value) {
  if (value === undefined) return null;
  if (field.kind === "group" && value !== null) return typedFrom(field.fields, value);
  const typed = value === null ? bare(field) : spelled(field, value);
  if (typed === null) return null;
  const read = readField(field, typed);
  const again = "value" in read ? read.value : field.fallback;
  return read.problems || JSON.stringify(again) === JSON.stringify(value) ? typed : null;
}

function spelled(field, value) {
  if (field.kind === "flag") return typeof value === "boolean" ? value : null;
  if (field.kind === "choice") return spelledChoice(field, value);
  if (field.kind === "lines") return Array.isArray(value) ? spelledLines(field, value) : null;
  const type = field.kind === "number" ? "number" : "string";
  return typeof value === type && !/[\r\n]/.test(value) ? String(value) : null;
}

function spelledChoice(field, value) {
  const text = JSON.stringify(value);
  return field.choices.some((each) => JSON.stringify(each) === text) ? text : null;
}

function spelledLines(field, value) {
  const lines = value.map((each) => spelled(field.item, each));
  return lines.includes(null) ? null : lines.join("\n");
}
