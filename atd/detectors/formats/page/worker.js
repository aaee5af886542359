/* Reads pictures and runs the detector, beside the page, which stays free for its reader.
 * A request is {id, task, file}; its answer {id, ...what the task found} or {id, error}. */

import * as ort from "./onnxruntime.js";
import { canvasIsExact, decode } from "./decode.js";
import { prepare } from "./pixels.js";

const THUMBNAIL = 192; // pixels
const GRID = 8; // places a side that the occlusion map covers, one after the other
const AT_ONCE = 8;

const model = load();
model.catch(() => {}); // told by every task

let last = Promise.resolve(); // one task after the other: each takes a picture's memory
let looked = 0; // the latest request to look at a picture, which ends earlier occlusion maps

self.onmessage = ({ data }) => {
  if (data.task === "look") looked = data.id;
  last = last.then(() => answer(data));
};

async function answer({ id, task, file }) {
  const progress = async (share) => {
    self.postMessage({ id, progress: share });
    await new Promise((resolve) => setTimeout(resolve)); // in which messages arrive
    if (looked > id) throw new Error("another picture is looked at");
  };
  try {
    const found = await { open, score, look, occlude }[task](file, progress);
    self.postMessage({ id, ...found });
  } catch (error) {
    self.postMessage({ id, error: error.message || String(error) });
  }
}

async function load() {
  const manifest = JSON.parse(new TextDecoder().decode(await read("manifest.json")));
  const content = await read("detector.onnx");
  const verified = await verify(content, manifest.files["detector.onnx"].sha256);
  ort.env.wasm.numThreads = 1; // more need headers that not every static host sends
  ort.env.wasm.wasmPaths = { wasm: new URL("onnxruntime.wasm", import.meta.url).href };
  const session = await ort.InferenceSession.create(content, { executionProviders: ["wasm"] });
  return { manifest, session, verified, shape: manifest.input.shape.slice(1) };
}

async function read(name) {
  const answer = await fetch(new URL(name, import.meta.url), { cache: "no-cache" });
  if (!answer.ok) throw new Error(`${name} is missing beside this page (HTTP ${answer.status})`);
  return answer.arrayBuffer();
}

/** Whether the file could be verified: browsers compute hashes on https and localhost only. */
async function verify(content, expected) {
  if (!self.crypto.subtle) return false;
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", content));
  const found = Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
  if (found !== expected) {
    throw new Error("detector.onnx is not the file that manifest.json describes; export it again");
  }
  return true;
}

/** Opens the detector and has it score the two images whose scores the manifest tells. */
async function open() {
  const { manifest, verified, shape } = await model;
  const { scores, tolerance } = manifest.check;
  const found = await run(probes(shape), 2);
  const deviation = Math.max(...found.map((score, index) => Math.abs(score - scores[index])));
  if (!(deviation <= tolerance)) {
    throw new Error(`this browser computes other scores than the detector's, by ${deviation}`);
  }
  return { manifest, verified, deviation, exact: canvasIsExact() };
}

/** A ramp and noise, as `probes` in atd/detectors/formats/web.py makes them. */
function probes([channels, size]) {
  const count = channels * size * size;
  const images = new Uint8Array(2 * count);
  for (let pixel = 0; pixel < count; pixel++) {
    images[pixel] = Math.floor((pixel * 255) / (count - 1 || 1));
    images[count + pixel] = (pixel * 7919 + ((pixel * pixel) % 104729)) % 256;
  }
  return images;
}

/** The scores of images laid end to end. */
async function run(images, count) {
  const { manifest, session, shape } = await model;
  const tensor = new ort.Tensor("uint8", images, [count, ...shape]);
  const { [manifest.output.name]: scores } = await session.run({ [manifest.input.name]: tensor });
  return Array.from(scores.data);
}

/** The decoded picture, for `use(pixels, bitmap)`, which may take its time. */
async function opened(file, use) {
  const { bitmap, pixels } = await decode(file);
  try {
    return await use(pixels, bitmap);
  } finally {
    bitmap.close();
  }
}

async function input(pixels) {
  const { shape } = await model;
  return prepare(pixels, shape[0], shape[1]);
}

function score(file) {
  return opened(file, async (pixels, bitmap) => {
    const [value] = await run(await input(pixels), 1);
    if (!Number.isFinite(value)) throw new Error(`the score is not finite (${value})`);
    const { width, height } = bitmap;
    return { score: value, width, height, thumbnail: await thumbnail(bitmap) };
  });
}

/** What the detector sees: channels x size x size bytes. */
async function look(file) {
  const seen = await opened(file, input);
  const { shape } = await model;
  return { seen, channels: shape[0], size: shape[1] };
}

/** A small picture of the square that the detector looks at. */
async function thumbnail(bitmap) {
  const side = Math.min(bitmap.width, bitmap.height);
  const size = Math.min(side, THUMBNAIL);
  const canvas = new OffscreenCanvas(size, size);
  const context = canvas.getContext("2d");
  context.fillStyle = "white";
  context.fillRect(0, 0, size, size);
  context.imageSmoothingQuality = "high";
  const [left, top] = [(bitmap.width - side) / 2, (bitmap.height - side) / 2];
  context.drawImage(bitmap, left, top, side, side, 0, 0, size, size);
  return canvas.convertToBlob({ type: "image/jpeg", quality: 0.85 });
}

/** How far the score falls where a patch of the picture's mean colour covers it, GRID x GRID. */
async function occlude(file, progress) {
  const seen = await opened(file, input);
  const { shape } = await model;
  const [whole] = await run(seen, 1);
  const falls = [];
  const places = GRID * GRID;
  for (let start = 0; start < places; start += AT_ONCE) {
    const batch = new Uint8Array(AT_ONCE * seen.length);
    for (let index = 0; index < AT_ONCE; index++) {
      batch.set(covered(seen, shape, start + index), index * seen.length);
    }
    for (const value of await run(batch, AT_ONCE)) falls.push(whole - value);
    await progress((start + AT_ONCE) / places);
  }
  return { falls, grid: GRID };
}

function covered(seen, [channels, size], place) {
  const result = seen.slice();
  const step = size / GRID;
  const [row, column] = [Math.floor(place / GRID), place % GRID];
  const [top, left] = [row - 0.5, column - 0.5].map((at) => Math.max(0, Math.round(at * step)));
  const [bottom, right] = [row + 1.5, column + 1.5].map((at) =>
    Math.min(size, Math.round(at * step)),
  );
  for (let channel = 0; channel < channels; channel++) {
    const plane = result.subarray(channel * size * size, (channel + 1) * size * size);
    const mean = plane.reduce((sum, value) => sum + value, 0) / plane.length;
    for (let y = top; y < bottom; y++) plane.fill(mean, y * size + left, y * size + right);
  }
  return result;
}
