// Loads the exported graphs and answers questions; all files come from the folder of this page.

import * as ort from "./ort.wasm.min.mjs";
import { findRegions } from "./detector.js";
import { tokenize } from "./text.js";

const GRAPHS = ["trunk", "heads", "image", "text"];

ort.env.wasm.wasmPaths = new URL("./", import.meta.url).href;
ort.env.wasm.numThreads = 1; // more need response headers that a static server does not send

/** Load all files; `progress` is called with the bytes loaded so far. */
export async function loadModel(progress = () => {}) {
  let loaded = 0;
  const fetchBytes = async (name) => {
    const response = await fetch(new URL(name, import.meta.url));
    if (!response.ok) throw new Error(`${name} cannot be loaded (${response.status})`);
    const chunks = [], reader = response.body.getReader();
    for (let part = await reader.read(); !part.done; part = await reader.read()) {
      chunks.push(part.value);
      progress((loaded += part.value.length));
    }
    return new Uint8Array(await new Blob(chunks).arrayBuffer());
  };
  const fetchJson = async (name) => JSON.parse(new TextDecoder().decode(await fetchBytes(name)));
  const [page, tokenizer] = await Promise.all(["page.json", "tokenizer.json"].map(fetchJson));
  const sessions = {};
  for (const name of GRAPHS) {
    sessions[name] = await ort.InferenceSession.create(await fetchBytes(`${name}.onnx`));
  }
  return new Model(page, tokenizer, sessions);
}

class Model {
  constructor(page, tokenizer, sessions) {
    Object.assign(this, { page, tokenizer, sessions });
    this.run = this.run.bind(this);
  }

  /** Run a graph with [values, dims] for each input; integers are 64 bits wide. */
  run(graph, inputs) {
    const feeds = {};
    for (const [name, [values, dims]] of Object.entries(inputs)) {
      const type = values instanceof BigInt64Array ? "int64" : "float32";
      feeds[name] = new ort.Tensor(type, values, dims);
    }
    return this.sessions[graph].run(feeds);
  }

  /** Return the regions of an image; see detector.js. */
  regions(image) {
    return findRegions(this.run, image, this.page);
  }

  tokenize(text) {
    return tokenize(text, this.tokenizer, this.page.max_text_length);
  }

  /** Answer a question about an image with known regions.
   *
   * Returns the answers, best first, as {answer, score}; the relevance of each region, which is how
   * much the probability of the best answer falls without it; the words without a token.
   */
  async ask(image, regions, question) {
    const { ids, unknown } = this.tokenize(question);
    const number = regions.boxes.length, rows = number > 1 ? number + 1 : 1;
    const mask = new BigInt64Array(rows * number).fill(1n);
    for (let left = 0; left + 1 < rows; left++) mask[(left + 1) * number + left] = 0n;
    const sides = [image.width, image.height, image.width, image.height];
    const places = regions.boxes.flatMap((box) => box.map((side, k) => Math.min(side / sides[k], 1)));
    const seen = [mask, [rows, number]];
    const { image_state: state } = await this.run("image", {
      visual_feats: [repeat(regions.features, rows), [rows, number, regions.features.length / number]],
      visual_pos: [repeat(Float32Array.from(places), rows), [rows, number, 4]],
      visual_attention_mask: seen,
    });
    const words = (values) => [repeat(BigInt64Array.from(values, BigInt), rows), [rows, ids.length]];
    const output = await this.run("text", {
      input_ids: words(ids),
      attention_mask: words(ids.map(() => 1)),
      token_type_ids: words(ids.map(() => 0)),
      image_state: [state.data, state.dims],
      visual_attention_mask: seen,
    });
    const logits = output.answers.data, size = this.page.answers.length;
    const scores = Array.from({ length: rows }, (_, row) => softmax(logits.subarray(row * size, (row + 1) * size)));
    const order = [...scores[0].keys()].sort((one, other) => scores[0][other] - scores[0][one]);
    const best = order[0];
    return {
      answers: order.map((index) => ({ answer: this.page.answers[index], score: scores[0][index] })),
      relevance: scores.slice(1).map((row) => scores[0][best] - row[best]),
      unknown,
    };
  }
}

function repeat(values, times) {
  const result = new values.constructor(values.length * times);
  for (let time = 0; time < times; time++) result.set(values, time * values.length);
  return result;
}

function softmax(logits) {
  const powers = Array.from(logits, (value) => Math.exp(value - Math.max(...logits)));
  const sum = powers.reduce((total, power) => total + power, 0);
  return powers.map((power) => power / sum);
}
