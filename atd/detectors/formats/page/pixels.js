/* From decoded pixels to a detector's input, as `atd/data/decoding.py` does it with Pillow:
 * transparency on white, grey where one channel is wanted, the largest centred square resized by an
 * antialiased bicubic filter. Integer for integer what Pillow 13 computes, which no canvas promises. */

const BITS = 22; // Pillow's fixed point: 32 bits less 8 of the pixel and 2 of headroom
const HALF = 1 << (BITS - 1);
const STRIP = 64; // rows read at a time, so that no canvas is as large as a photo

/**
 * The input of the detector.
 * @param {{width: number, height: number, rows: (top: number, count: number) => Uint8Array}} image
 *   `rows` gives `count` rows from `top` on as RGBA bytes, colours not multiplied by alpha.
 * @param {number} channels 3 (RGB) or 1 (grey).
 * @param {number} size Side of the result in pixels.
 * @returns {Uint8Array} channels x size x size.
 */
export function prepare({ width, height, rows }, channels, size) {
  const planes = Array.from({ length: channels }, () => new Uint8Array(width * height));
  for (let top = 0; top < height; top += STRIP) {
    const count = Math.min(STRIP, height - top);
    fill(planes, rows(top, count), width * top, width * count);
  }
  const result = new Uint8Array(channels * size * size);
  planes.forEach((plane, index) => {
    result.set(resize(plane, width, height, size), index * size * size);
  });
  return result;
}

/** Lays RGBA pixels on white; with one plane, their grey. */
function fill(planes, rgba, start, count) {
  for (let pixel = 0; pixel < count; pixel++) {
    const at = 4 * pixel;
    const alpha = rgba[at + 3];
    const red = onWhite(rgba[at], alpha);
    const green = onWhite(rgba[at + 1], alpha);
    const blue = onWhite(rgba[at + 2], alpha);
    if (planes.length === 1) {
      planes[0][start + pixel] = (red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16;
    } else {
      planes[0][start + pixel] = red;
      planes[1][start + pixel] = green;
      planes[2][start + pixel] = blue;
    }
  }
}

function onWhite(value, alpha) {
  if (alpha === 255) return value;
  const sum = (value * alpha + 255 * (255 - alpha) + 128) << 7;
  return (((sum >> 8) + sum) >> 8) >> 7;
}

/** The largest centred square of a plane, size x size; Pillow begins with the height where that
 * shrinks by more than twice as many pixels as the width. */
function resize(plane, width, height, size) {
  if (width === size && height === size) return plane;
  const side = Math.min(width, height);
  const across = filter(width, (width - side) / 2, side, size);
  const down = filter(height, (height - side) / 2, side, size);
  if (height > size && height - size > 2 * (width - size)) {
    return rowsOf(columnsOf(plane, width, down), width, size, across);
  }
  return columnsOf(rowsOf(plane, width, height, across), size, down);
}

/** Resizes every row of a plane. */
function rowsOf(plane, width, height, { from, count, weights, taps }) {
  const size = from.length;
  const result = new Uint8ClampedArray(size * height);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < size; x++) {
      let at = y * width + from[x];
      let sum = HALF;
      const end = x * taps + count[x];
      for (let tap = x * taps; tap < end; tap++) sum += plane[at++] * weights[tap];
      result[y * size + x] = sum >> BITS;
    }
  }
  return result;
}

/** Resizes every column of a plane. */
function columnsOf(plane, width, { from, count, weights, taps }) {
  const size = from.length;
  const result = new Uint8ClampedArray(width * size);
  for (let y = 0; y < size; y++) {
    const sums = new Int32Array(width).fill(HALF);
    for (let tap = 0; tap < count[y]; tap++) {
      const start = (from[y] + tap) * width;
      const weight = weights[y * taps + tap];
      for (let x = 0; x < width; x++) sums[x] += plane[start + x] * weight;
    }
    for (let x = 0; x < width; x++) result[y * width + x] = sums[x] >> BITS;
  }
  return result;
}

/** Where the taps of each output pixel begin, how many there are, and their weights. */
function filter(length, start, side, size) {
  const scale = side / size;
  const stretch = Math.max(scale, 1);
  const support = 2 * stretch;
  const taps = Math.ceil(support) * 2 + 1;
  const [from, count] = [new Int32Array(size), new Int32Array(size)];
  const weights = new Int32Array(size * taps);
  for (let out = 0; out < size; out++) {
    const centre = start + (out + 0.5) * scale;
    from[out] = Math.max(0, Math.trunc(centre - support + 0.5));
    count[out] = Math.min(length, Math.trunc(centre + support + 0.5)) - from[out];
    const exact = Array.from({ length: count[out] }, (_, tap) =>
      bicubic((tap + from[out] - centre + 0.5) * (1 / stretch)),
    );
    const sum = exact.reduce((total, weight) => total + weight, 0);
    exact.forEach((weight, tap) => {
      const scaled = (sum === 0 ? weight : weight / sum) * 2 ** BITS;
      weights[out * taps + tap] = Math.trunc(scaled + (scaled < 0 ? -0.5 : 0.5));
    });
  }
  return { from, count, weights, taps };
}

function bicubic(distance) {
  const x = Math.abs(distance);
  if (x < 1) return (1.5 * x - 2.5) * x * x + 1;
  if (x < 2) return (((x - 5) * x + 8) * x - 4) * -0.5;
  return 0;
}
