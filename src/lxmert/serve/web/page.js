"use strict";
(() => {
  const $ = (id) => document.getElementById(id);
  const SVG = "http://www.w3.org/2000/svg";
  const MOST_TAGS = 6;
  const UNREADABLE = [400, 413, 415, 422]; // trying again would give the same error
  const DRAWN = "this model knows only drawn scenes such as the examples: for a photo, its regions and answers are unreliable. The command \"lxmert serve vqa\" starts a model that knows photos";

  // The image that is asked about; `id` names it once the server has seen it.
  let image = null;
  let model = null;
  let running = null; // ends what is in progress when something else is wanted
  let drawn = null; // ends what the shown report listens to
  let asked = ""; // the question of the shown report

  /* ---- the server ---- */

  const sentence = (text) => `${text.slice(0, 1).toUpperCase()}${text.slice(1)}${/[.!?]$/.test(text) ? "" : "."}`;

  async function read(response) {
    const body = await response.json().catch(() => null);
    if (response.ok && body) return body;
    const error = new Error(sentence(body?.error || `the server answers with status ${response.status}`));
    throw Object.assign(error, { status: response.status });
  }

  async function request(path, options) {
    try {
      return await fetch(path, options);
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Error("The server cannot be reached. Is it still running?");
    }
  }

  // A known image is named; it is sent only if the server does not know it, or no longer.
  async function send(kind, fields, signal) {
    const path = `/v1/${kind}`;
    if (image.id) {
      const body = JSON.stringify({ image_id: image.id, ...fields });
      const headers = { "Content-Type": "application/json" };
      const response = await request(path, { method: "POST", headers, body, signal });
      if (response.status !== 404) return read(response);
    }
    const form = new FormData();
    form.append("image", image.file);
    for (const [name, value] of Object.entries(fields)) {
      for (const each of [value].flat()) form.append(name, each);
    }
    const found = await read(await request(path, { method: "POST", body: form, signal }));
    image.id = found.image_id;
    return found;
  }

  // Runs a task with its progress; another task ends it, and a failure is shown with a way on.
  async function run(text, task) {
    running?.abort();
    const mine = (running = new AbortController());
    const started = performance.now();
    const tick = (now = text) => {
      const seconds = Math.round((performance.now() - started) / 1000);
      text = now;
      $("progress-text").textContent = seconds < 2 ? `${text}…` : `${text}… ${seconds} s`;
    };
    const timer = setInterval(tick, 500);
    tick();
    $("problem").hidden = true;
    $("progress").hidden = false;
    $("result").classList.add("waiting");
    try {
      await task(mine.signal, tick);
    } catch (error) {
      if (mine === running) {
        $("problem-text").textContent = error.message;
        $("problem").hidden = false;
        $("again").hidden = UNREADABLE.includes(error.status);
        $("again").onclick = () => run(text, task);
      }
    } finally {
      clearInterval(timer);
      if (mine === running) {
        $("progress").hidden = true;
        $("result").classList.remove("waiting");
      }
    }
  }

  /* ---- drawing ---- */

  function element(kind, attributes, ...children) {
    const made = kind.startsWith("svg:")
      ? document.createElementNS(SVG, kind.slice(4))
      : document.createElement(kind);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    made.append(...children);
    return made;
  }

  const percent = (share) => (share > 0 && share < 0.0005 ? "<0.1%" : `${(100 * share).toFixed(1)}%`);

  function row(name, share, value) {
    const bar = element("i", {});
    const made = element("div", { class: "row", role: "listitem" }, element("span", { title: name }, name), bar, element("em", {}, value));
    bar.style.setProperty("--r", share.toFixed(4));
    return made;
  }

  function clear() {
    drawn?.abort();
    drawn = null;
    $("result").replaceChildren();
    $("share").hidden = true;
  }

  const isBundled = () => model?.model === "the bundled model";

  function warn(warnings) {
    const all = image.own && isBundled() ? [DRAWN, ...warnings] : warnings;
    $("notes").replaceChildren(...all.map((text) => element("li", {}, sentence(text))));
  }

  // The image with its regions, beside a list of `rows`: what is known before an explanation.
  function preview(title, rows, status, best) {
    clear();
    const { regions, width, height } = image;
    $("result").append($("preview-body").content.cloneNode(true));
    document.querySelector("figure").style.setProperty("--shape", width / height);
    const stage = $("image");
    stage.setAttribute("viewBox", `0 0 ${width} ${height}`);
    stage.append(element("svg:image", { href: image.url, width, height, preserveAspectRatio: "none" }));
    for (const { box: [x1, y1, x2, y2], label } of regions) {
      const made = element("svg:rect", { class: "region", x: x1, y: y1, width: Math.max(x2 - x1, 0), height: Math.max(y2 - y1, 0) });
      made.append(element("svg:title", {}, label));
      stage.append(made);
    }
    if (!best) tag(regions, width, height);
    $("answer").textContent = best?.name ?? "";
    $("probability").textContent = best ? percent(best.score) : "";
    document.querySelector("#result .answer").hidden = !best;
    $("list-title").textContent = title;
    $("list").replaceChildren(...rows);
    $("status").textContent = status;
  }

  // Names of the most confident regions, where they overlap no other name.
  function tag(regions, width, height) {
    const taken = [];
    const shown = [...regions].sort((a, b) => b.score - a.score).slice(0, MOST_TAGS);
    for (const { label, box: [x1, y1] } of shown) {
      const made = element("div", { class: "tag" }, label);
      $("tags").append(made);
      made.style.top = `clamp(0px, calc(${(100 * y1) / height}% - 24px), calc(100% - 21px))`;
      const room = 100 * (1 - made.offsetWidth / $("stage").offsetWidth);
      made.style.left = `max(0%, min(${(100 * x1) / width}%, ${room}%))`;
      const box = made.getBoundingClientRect();
      const hides = taken.some((other) => box.left < other.right && other.left < box.right &&
        box.top < other.bottom && other.top < box.bottom);
      if (hides) made.remove();
      else taken.push(box);
    }
  }

  function report(found) {
    clear();
    $("result").append($("report-body").content.cloneNode(true));
    drawn = new AbortController();
    drawReport({
      ...found,
      image: { source: image.url, width: found.width, height: found.height },
      answers: found.answers.map(({ answer, score }) => ({ text: answer, score })),
    }, drawn.signal);
    for (const id of ["link", "copy", "open"]) $(id).hidden = true;
    $("save").hidden = false;
    $("share").hidden = false;
  }

  /* ---- what the user does ---- */

  // An own image comes without questions, an example with some.
  function choose(file, questions = null) {
    if (model && file.size > model.max_image_bytes) {
      return fail(`The image file has ${(file.size / 2 ** 20).toFixed(1)} MiB; this server reads at most ${model.max_image_bytes >> 20} MiB.`);
    }
    if (image) URL.revokeObjectURL(image.url);
    image = { file, own: !questions, url: URL.createObjectURL(file), id: null, regions: [], width: 1, height: 1 };
    clear();
    $("notes").replaceChildren();
    suggest(questions ?? []);
    document.title = "Ask about an image";
    return run("Finding regions", async (signal) => {
      const found = await send("regions", {}, signal).catch((error) => {
        if (!signal.aborted) $("asking").hidden = true; // there is nothing to ask about
        throw error;
      });
      Object.assign(image, found);
      document.body.classList.add("has-image");
      $("drop-title").textContent = "Other image";
      $("asking").hidden = false;
      warn(found.warnings);
      const rows = found.regions.map(({ label, score }) => row(label, score, percent(score)));
      const number = found.found ? found.regions.length : 0;
      preview("Regions found", rows, `${number} ${number === 1 ? "region" : "regions"} found. The percentages say how sure the model is of their names.`);
      if (matchMedia("(pointer: fine)").matches) $("ask-text").focus();
    });
  }

  function fail(text) {
    running?.abort();
    $("progress").hidden = true;
    $("problem-text").textContent = text;
    $("problem").hidden = false;
    $("again").hidden = true;
  }

  function ask(question) {
    return run("Answering", async (signal, say) => {
      const found = await send("ask", { question }, signal);
      warn(found.warnings);
      const [{ answer: name, score }] = found.answers;
      const rows = found.answers.map((each) => row(each.answer, each.score, percent(each.score)));
      const status = model.can_explain ? "" : "This is an exported model: it does not show what an answer depends on. The model that it was exported from does.";
      preview("Answers", rows, status, { name, score });
      if (!model.can_explain) return;
      say("Explaining the answer");
      const explained = await send("explain", { question, attention: true }, signal);
      warn(explained.warnings);
      report(explained);
      asked = question;
    });
  }

  function compare(captions) {
    return run("Comparing", async (signal) => {
      const found = await send("match", { captions }, signal);
      warn(found.warnings);
      const rows = captions.map((text, index) => row(text, found.scores[index], percent(found.scores[index])));
      const best = found.scores.indexOf(Math.max(...found.scores));
      preview("Captions", rows, "The probability of each caption that it describes the image; they do not add up to 100%.",
        { name: captions[best], score: found.scores[best] });
    });
  }

  function suggest(questions) {
    $("suggestions").replaceChildren(...questions.map((question) => {
      const made = element("button", { type: "button" }, question);
      made.addEventListener("click", () => { $("ask-text").value = question; ask(question); });
      return made;
    }));
  }

  function mode(name) {
    for (const each of ["ask", "match"]) {
      $(`mode-${each}`).setAttribute("aria-selected", each === name);
      $(`mode-${each}`).tabIndex = each === name ? 0 : -1;
      $(`${each}-form`).hidden = each !== name || (model && !model[`can_${each}`]);
    }
    $("cannot").hidden = !model || model[`can_${name}`];
    $("cannot").textContent = model ? sentence(model.missing || "") : "";
  }

  async function example({ image: path, questions }, button) {
    for (const each of $("examples").children) each.setAttribute("aria-pressed", each === button);
    try {
      const response = await request(path);
      if (!response.ok) throw new Error("The example cannot be loaded.");
      await choose(await response.blob(), questions);
    } catch (error) {
      fail(error.message);
    }
  }

  async function start(signal, say) {
    let response = await request("/v1/model");
    while (response.status === 503) {
      say("The server is loading the model");
      await new Promise((wake) => { setTimeout(wake, 1000); });
      response = await request("/v1/model");
    }
    model = await read(response);
    $("served").textContent = `${model.model}, lxmert ${model.version}`;
    if (isBundled()) $("intro").append(` ${sentence(DRAWN)}`);
    if (model.can_ask && !model.can_explain) {
      $("intro").textContent = "The model finds the objects in an image and answers questions about it. It is an exported model, which does not show what an answer depends on.";
    }
    mode(model.can_ask ? "ask" : "match");
    const { examples } = await read(await request("/examples"));
    $("examples").hidden = !examples.length;
    $("try").hidden = !examples.length;
    $("examples").replaceChildren(...examples.map((each, index) => {
      const thumbnail = element("img", { src: each.image, alt: `Example ${index + 1}` });
      const made = element("button", { type: "button", "aria-pressed": false }, thumbnail);
      made.addEventListener("click", () => example(each, made));
      return made;
    }));
  }

  /* ---- events ---- */

  function take(files) {
    for (const each of $("examples").children) each.setAttribute("aria-pressed", false);
    const file = [...files].find((each) => each.type.startsWith("image/")) ?? files[0];
    if (file) choose(file);
  }

  for (const id of ["file", "camera"]) {
    $(id).addEventListener("change", (event) => { take(event.target.files); event.target.value = ""; });
  }
  addEventListener("paste", (event) => {
    if (event.clipboardData.files.length) { event.preventDefault(); take(event.clipboardData.files); }
  });
  addEventListener("dragover", (event) => { event.preventDefault(); document.body.classList.add("dropping"); });
  addEventListener("dragleave", (event) => { if (!event.relatedTarget) document.body.classList.remove("dropping"); });
  addEventListener("drop", (event) => {
    event.preventDefault();
    document.body.classList.remove("dropping");
    take(event.dataTransfer.files);
  });
  // Spaces alone are an empty text, which the browser points at.
  function filled(form) {
    for (const each of form.querySelectorAll("input")) each.value = each.value.trim();
    return form.reportValidity();
  }

  $("ask-form").addEventListener("submit", (event) => {
    event.preventDefault();
    if (filled(event.target)) ask($("ask-text").value);
  });
  $("match-form").addEventListener("submit", (event) => {
    event.preventDefault();
    if (filled(event.target)) compare([...document.querySelectorAll(".caption")].map((each) => each.value));
  });
  for (const name of ["ask", "match"]) {
    $(`mode-${name}`).addEventListener("click", () => mode(name));
    $(`mode-${name}`).addEventListener("keydown", (event) => {
      if (!["ArrowLeft", "ArrowRight"].includes(event.key)) return;
      const other = name === "ask" ? "match" : "ask";
      mode(other);
      $(`mode-${other}`).focus();
    });
  }
  $("save").addEventListener("click", () => run("Saving the report", async (signal) => {
    const found = await send("explain", { question: asked, save: true }, signal);
    const link = new URL(found.report, location.href).href;
    $("link").value = link;
    $("open").href = link;
    $("save").hidden = true;
    for (const id of ["link", "copy", "open"]) $(id).hidden = false;
    $("link").select();
  }));
  $("copy").addEventListener("click", async () => {
    $("link").select();
    await navigator.clipboard?.writeText($("link").value).catch(() => document.execCommand("copy"));
    $("copy").textContent = "Copied";
    setTimeout(() => { $("copy").textContent = "Copy"; }, 1500);
  });

  run("Connecting", start);
})();
