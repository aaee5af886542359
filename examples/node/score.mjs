/* Scores images with an exported detector, in Node:
 *
 *     npm ci --ignore-scripts
 *     node score.mjs EXPORT_FOLDER photo.png scans/*.png
 *
 * Prints what `atd.score --format jsonl` prints: path, score (larger = more likely
 * out-of-distribution), is_ood (whether it lies above the threshold) and error. All that has to be
 * known of the detector stands in manifest.json. */

import { readFile } from "node:fs/promises";
import { join } from "node:path";

import { InferenceSession, Tensor } from "onnxruntime-node";
import sharp from "sharp";

import { prepare } from "./pixels.mjs";

async function load(folder) {
  const manifest = JSON.parse(await readFile(join(folder, "manifest.json"), "utf8"));
  if (!manifest.score_direction.includes("larger = more")) {
    throw new Error(`manifest.json: score_direction: ${manifest.score_direction} is unknown`);
  }
  const { threshold } = manifest;
  if (threshold !== null && !Number.isFinite(threshold)) {
    throw new Error(`manifest.json: threshold: ${threshold} is neither a number nor null`);
  }
  return { manifest, session: await InferenceSession.create(join(folder, "detector.onnx")) };
}

/** What sharp reads as Pillow does; it would draw SVG too, and AVIF in other colours. */
const FORMATS = ["gif", "jpeg", "png", "tiff", "webp"];

/** The pixels of an image file: EXIF turns it, colour profiles are left aside as in training. */
async function decode(path) {
  const image = sharp(path, { ignoreIcc: true, failOn: "truncated", limitInputPixels: 178_956_970 });
  const { depth, format, space } = await image.metadata();
  if (!FORMATS.includes(format)) throw new Error(`${format}; convert it to ${FORMATS.join(", ")}`);
  if (depth !== "uchar") throw new Error("more than 8 bits a channel; convert it to 8 bits");
  if (space === "cmyk")
    throw new Error("CMYK, of which Pillow makes other colours; convert it to RGB");
  const turned = image.autoOrient().toColourspace("srgb").ensureAlpha().raw();
  const { data, info } = await turned.toBuffer({ resolveWithObject: true });
  const rows = (top, count) => data.subarray(4 * info.width * top, 4 * info.width * (top + count));
  return { width: info.width, height: info.height, rows };
}

async function score({ manifest, session }, path) {
  const shape = manifest.input.shape.slice(1);
  const pixels = prepare(await decode(path), shape[0], shape[1]);
  const images = new Tensor("uint8", pixels, [1, ...shape]);
  const { [manifest.output.name]: scores } = await session.run({ [manifest.input.name]: images });
  const value = Number(scores.data[0].toPrecision(9));
  if (!Number.isFinite(value)) throw new Error(`the score is not finite (${value})`);
  return value;
}

/** A row of one image; one that cannot be read is never taken for in-distribution. */
async function row(detector, path) {
  const { threshold } = detector.manifest;
  try {
    const value = await score(detector, path);
    return {
      path,
      score: value,
      is_ood: threshold === null ? null : value > threshold,
      error: null,
    };
  } catch (error) {
    return { path, score: null, is_ood: true, error: error.message.replace(/\s+/g, " ").trim() };
  }
}

const [folder, ...paths] = process.argv.slice(2);
if (!paths.length) {
  console.error("usage: node score.mjs EXPORT_FOLDER IMAGE...");
  process.exit(2);
}
const detector = await load(folder);
for (const path of paths) console.log(JSON.stringify(await row(detector, path)));
