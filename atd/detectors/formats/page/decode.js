/* From an image file to pixels, by the browser's own decoder. What atd.score would refuse, such as a
 * file that breaks off, is refused here too, where the browser would show the half it has. */

import { refusal } from "./refusal.js";

const MOST_PIXELS = 178_956_970; // beyond which Pillow takes a picture for an attack

/**
 * Decodes a file; `pixels` is what `prepare` takes.
 * @param {File} file An image of any format the browser reads.
 * @returns {Promise<{bitmap: ImageBitmap, pixels: object}>} Close the bitmap when done with it.
 * @throws {Error} The file cannot be read as an image; the message says why.
 */
export async function decode(file) {
  const bytes = await file.arrayBuffer().catch(() => {
    throw new Error("the file cannot be read; was it moved or deleted?");
  });
  const problem = refusal(new Uint8Array(bytes));
  if (problem) throw new Error(problem);
  const options = {
    colorSpaceConversion: "none",
    premultiplyAlpha: "none",
    imageOrientation: "from-image",
  };
  const bitmap = await createImageBitmap(new Blob([bytes]), options).catch(() => {
    throw new Error("of no format that this browser reads, or damaged");
  });
  if (bitmap.width * bitmap.height > MOST_PIXELS) {
    bitmap.close();
    throw new Error("too many pixels; make it smaller");
  }
  return { bitmap, pixels: { width: bitmap.width, height: bitmap.height, rows: rowsOf(bitmap) } };
}

/** Rows of a bitmap as RGBA bytes, laid on white; a canvas of one strip is enough for any photo. */
function rowsOf(bitmap) {
  let context;
  return (top, count) => {
    if (!context) {
      const canvas = new OffscreenCanvas(bitmap.width, count);
      context = canvas.getContext("2d", { willReadFrequently: true });
    }
    context.fillStyle = "white";
    context.fillRect(0, 0, bitmap.width, count);
    context.drawImage(bitmap, 0, -top);
    return context.getImageData(0, 0, bitmap.width, count).data;
  };
}

/** Whether canvases give back what was drawn; protection against fingerprinting may add noise. */
export function canvasIsExact() {
  const canvas = new OffscreenCanvas(64, 64);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  const drawn = context.createImageData(64, 64);
  drawn.data.forEach((_, index, data) => {
    data[index] = index % 4 === 3 ? 255 : (index * 2654435761) >>> 24;
  });
  context.putImageData(drawn, 0, 0);
  return context
    .getImageData(0, 0, 64, 64)
    .data.every((value, index) => value === drawn.data[index]);
}
