// The page: an example, a file, a dropped image or a photo of the camera, and questions about it.

import { loadModel } from "./model.js";

const WIDEST = 1600; // pixels; larger images are reduced when they are opened
const SHOWN = [5, 6]; // answers and regions
const at = (id) => document.getElementById(id);
const state = { model: null, image: null, regions: null, question: "" };

function say(text, problem = false) {
  at("status").textContent = text;
  at("status").classList.toggle("problem", problem);
}

/** Make an element with properties and children. */
function make(tag, properties = {}, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children);
  return node;
}

/** Format a share with one decimal; only 0 is "0.0%", and only 1 is "100.0%". */
function percent(share) {
  if (share > 0 && share < 0.0005) return "<0.1%";
  if (share >= 0.9995 && share < 1) return ">99.9%";
  return `${(Math.floor(1000 * share + 0.5) / 10).toFixed(1)}%`;
}

const signedPercent = (share) => `${share < 0 ? "-" : "+"}${percent(Math.abs(share))}`;

/** Run an action and show what goes wrong. */
async function attempt(action) {
  try {
    await action();
  } catch (error) {
    say(error.message, true);
  }
}

/** Show an image and find its regions; `source` is what a canvas can draw. */
async function showImage(source, width, height) {
  const canvas = at("image"), shrink = Math.min(1, WIDEST / Math.max(width, height));
  canvas.width = Math.max(1, Math.round(width * shrink));
  canvas.height = Math.max(1, Math.round(height * shrink));
  const zoom = Math.min(480 / canvas.width, 480 / canvas.height);
  canvas.style.width = `${canvas.width * zoom}px`;
  const brush = canvas.getContext("2d", { willReadFrequently: true });
  brush.fillStyle = "#fff";
  brush.fillRect(0, 0, canvas.width, canvas.height);
  brush.drawImage(source, 0, 0, canvas.width, canvas.height);
  state.image = brush.getImageData(0, 0, canvas.width, canvas.height);
  state.regions = null;
  at("boxes").replaceChildren();
  at("result").hidden = true;
  if (state.model) await findRegions();
}

async function findRegions() {
  say("Finding regions ...");
  await new Promise(requestAnimationFrame);
  const started = performance.now();
  state.regions = await state.model.regions(state.image);
  const seconds = ((performance.now() - started) / 1000).toFixed(2);
  const number = state.regions.boxes.length;
  say(state.regions.found
    ? `${number} region${number === 1 ? "" : "s"} found in ${seconds} s.`
    : "Nothing in this image was recognized, so answers are unreliable.");
  drawBoxes(state.regions.boxes.map(() => 0));
}

function drawBoxes(shares) {
  const { width, height } = state.image, best = shares.indexOf(Math.max(...shares));
  at("boxes").replaceChildren(...state.regions.boxes.map(([x1, y1, x2, y2], index) => {
    const box = make("span", { title: state.regions.names[index] });
    box.classList.toggle("top", index === best && shares[index] > 0);
    box.style.cssText = `left:${(100 * x1) / width}%;top:${(100 * y1) / height}%;`
      + `width:${(100 * (x2 - x1)) / width}%;height:${(100 * (y2 - y1)) / height}%;`;
    box.style.setProperty("--share", shares[index]);
    return box;
  }));
}

async function ask() {
  const question = at("question").value.trim();
  if (!question) return say("Write a question, such as: What color is the ball?", true);
  if (!state.regions) return say("Choose an image first.", true);
  const started = performance.now();
  const found = await state.model.ask(state.image, state.regions, question);
  const seconds = ((performance.now() - started) / 1000).toFixed(2);
  const words = found.unknown.map((word) => `"${word}"`).join(", ");
  say(words
    ? `The model does not know ${words}, so the answer is unreliable.`
    : `Answered in ${seconds} s, with the relevance of each region.`, Boolean(words));
  showAnswers(found);
}

function showAnswers({ answers, relevance }) {
  at("best").textContent = answers[0].answer;
  at("answers").replaceChildren(...answers.slice(0, SHOWN[0]).map(({ answer, score }) => {
    const bar = make("i");
    bar.style.width = `${100 * score}%`;
    return make("tr", {}, make("td", { textContent: answer }),
      make("td", { className: "score", textContent: percent(score) }),
      make("td", { className: "bar" }, bar));
  }));
  const most = Math.max(...relevance, 1e-6);
  drawBoxes(relevance.map((value) => Math.max(0, value / most)));
  const order = [...relevance.keys()].sort((one, other) => relevance[other] - relevance[one]);
  at("regions").replaceChildren(...order.slice(0, SHOWN[1]).map((index) =>
    make("li", {}, state.regions.names[index],
      make("b", { textContent: signedPercent(relevance[index]) }))));
  at("result").hidden = false;
}

async function openFile(file) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(file, { colorSpaceConversion: "none" });
  } catch {
    throw new Error(`${file.name || "The file"} is not an image that this browser can read.`);
  }
  await showImage(bitmap, bitmap.width, bitmap.height);
}

async function openExample(button, example) {
  for (const other of at("examples").children) other.setAttribute("aria-pressed", other === button);
  const response = await fetch(example.image);
  await openFile(await response.blob());
  showSuggestions(example.questions);
  at("question").value = example.questions[0];
}

function showSuggestions(questions) {
  at("suggestions").replaceChildren(...questions.map((question) =>
    make("button", { type: "button", textContent: question, onclick: () => {
      at("question").value = question;
      attempt(ask);
    } })));
}

function forgetExample() {
  for (const button of at("examples").children) button.setAttribute("aria-pressed", false);
}

/** Show the camera; the second click takes a photo. */
async function useCamera() {
  const video = at("camera"), button = at("use-camera");
  if (!video.srcObject) {
    video.srcObject = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
    await video.play();
    button.textContent = "Take the photo";
  } else {
    forgetExample();
    const show = showImage(video, video.videoWidth, video.videoHeight);
    for (const track of video.srcObject.getTracks()) track.stop();
    video.srcObject = null;
    button.textContent = "Use the camera";
    await show;
  }
  const live = Boolean(video.srcObject);
  video.hidden = !live;
  at("image").hidden = at("boxes").hidden = live;
}

function connect() {
  at("form").onsubmit = (event) => {
    event.preventDefault();
    attempt(ask);
  };
  const open = (file) => {
    forgetExample();
    attempt(() => openFile(file));
  };
  at("file").onchange = ({ target }) => target.files.length && open(target.files[0]);
  at("use-camera").hidden = !navigator.mediaDevices;
  at("use-camera").onclick = () => attempt(useCamera);
  document.ondragover = (event) => {
    event.preventDefault();
    document.body.classList.add("dropping");
  };
  document.ondragleave = ({ relatedTarget }) =>
    relatedTarget || document.body.classList.remove("dropping");
  document.ondrop = (event) => {
    event.preventDefault();
    document.body.classList.remove("dropping");
    if (event.dataTransfer.files.length) open(event.dataTransfer.files[0]);
  };
}

async function start() {
  connect();
  const page = await (await fetch("page.json")).json(), megabytes = (page.bytes / 1e6).toFixed(1);
  at("about").textContent = `${page.source} in ${page.precision}, ONNX Runtime Web `
    + `${page.runtime_version}: ${megabytes} MB, loaded once from the folder of this page.`;
  const buttons = page.examples.map((example) => {
    const button = make("button", { type: "button", title: example.image },
      make("img", { src: example.image, alt: `Example ${example.image}` }));
    button.onclick = () => attempt(() => openExample(button, example));
    return button;
  });
  at("examples").replaceChildren(...buttons);
  if (buttons.length) await openExample(buttons[0], page.examples[0]);
  say(`Loading ${megabytes} MB ...`);
  state.model = await loadModel((bytes) => (at("progress").value = bytes / page.graph_bytes));
  at("progress").hidden = true;
  at("ask").disabled = false;
  if (state.image) await findRegions();
}

attempt(start);
