"use strict";
(async () => {
  const schema = await (await fetch("/openapi.json")).json();
  const known = schema.components.schemas;
  const $ = (id) => document.getElementById(id);

  function element(kind, attributes, ...children) {
    const made = document.createElement(kind);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    made.append(...children);
    return made;
  }

  const nameOf = (reference) => reference.split("/").at(-1);
  const resolve = (part) => (part?.$ref ? known[nameOf(part.$ref)] : part);

  function type(part) {
    if (part.$ref) return nameOf(part.$ref);
    if (part.anyOf) return part.anyOf.filter((each) => each.type !== "null").map(type).join(" or ");
    if (part.const !== undefined) return JSON.stringify(part.const);
    if (part.enum) return part.enum.map((each) => JSON.stringify(each)).join(" or ");
    if (part.type === "array") return `list of ${part.items ? type(part.items) : "values"}`;
    return part.type ?? "value";
  }

  function fields(part) {
    const { properties = {}, required = [] } = resolve(part) ?? {};
    const rows = Object.entries(properties).map(([name, each]) => element("tr", {},
      element("td", {}, element("code", {}, name)),
      element("td", {}, type(each) + (required.includes(name) ? "" : ", optional")),
      element("td", {}, each.description ?? resolve(each)?.description ?? "")));
    const head = element("tr", {}, ...["field", "type", "meaning"].map((text) => element("th", {}, text)));
    return rows.length ? [element("table", {}, head, ...rows)] : [];
  }

  function example(path, operation) {
    const form = operation.requestBody?.content["multipart/form-data"];
    if (!form) return [];
    const needed = ["image", ...(form.schema.required ?? [])];
    const parts = needed.map((name) => (name === "image" ? "-F image=@photo.jpg" : `-F '${name}=...'`));
    return [element("pre", {}, `curl ${parts.join(" ")} ${location.origin}${path}`)];
  }

  $("about").textContent = schema.info.description;
  for (const [path, operations] of Object.entries(schema.paths)) {
    for (const [method, operation] of Object.entries(operations)) {
      const answer = operation.responses["200"]?.content?.["application/json"]?.schema;
      const body = operation.requestBody?.content["application/json"]?.schema;
      const heading = element("h2", { id: operation.operationId },
        element("span", { class: "method" }, method.toUpperCase()), element("code", {}, path));
      $("routes").append(heading, element("p", {}, operation.description ?? ""), ...example(path, operation));
      if (body) $("routes").append(element("h3", {}, `Request: JSON${operation.requestBody.content["multipart/form-data"] ? " or a form" : ""}`), ...fields(body));
      if (answer) $("routes").append(element("h3", {}, "Response"), ...fields(answer));
    }
  }
  $("routes").append(element("h2", {}, "Types"));
  for (const [name, part] of Object.entries(known)) {
    $("routes").append(element("h3", { id: name }, name), element("p", {}, part.description ?? ""), ...fields(part));
  }
})();
