/* Files that a browser would show otherwise than `atd.score` reads them, or half of. */

/** What a file of a known format holds, and where; a browser would show one size of an icon too. */
const KNOWN = [
  [0, "\x89PNG"],
  [0, "\xff\xd8"],
  [0, "GIF8"],
  [0, "BM"],
  [0, "II"],
  [0, "MM"],
  [4, "ftyp"],
  [8, "WEBP"],
];
const JPEG_ENDS = "the JPEG breaks off before its end";

/**
 * Why a file is not taken; empty where a browser reads the pixels that `atd.score` reads.
 * @param {Uint8Array} bytes The whole file.
 */
export function refusal(bytes) {
  if (!bytes.length) return "the file is empty";
  if (!KNOWN.some(([at, signature]) => text(bytes, at, signature.length) === signature)) {
    return "of no format that is read here; convert it to PNG or JPEG";
  }
  if (startsWith(bytes, [0x89, 0x50, 0x4e, 0x47])) {
    if (bytes[24] === 16) return "more than 8 bits a channel; convert it to 8 bits";
    return find(bytes, [0x49, 0x45, 0x4e, 0x44]) ? "" : "the PNG breaks off before its end";
  }
  if (startsWith(bytes, [0xff, 0xd8])) return ofJpeg(bytes);
  const turned = text(bytes, 8, 4) === "WEBP" && ![0, 1].includes(orientation(exifOfWebp(bytes)));
  return turned ? "a WebP turned by its EXIF, which browsers ignore; save it upright" : "";
}

/** Goes through the segments before the picture: a thumbnail among them has an end of its own. */
function ofJpeg(bytes) {
  let at = 2;
  while (bytes[at] === 0xff && bytes[at + 1] !== 0xda) {
    const marker = bytes[at + 1];
    const frame = marker >= 0xc0 && marker <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(marker);
    if (frame && bytes[at + 9] === 4) return "a CMYK picture; convert it to RGB";
    at += marker === 0xff ? 1 : 2 + 256 * bytes[at + 2] + bytes[at + 3];
  }
  return find(bytes.subarray(at), [0xff, 0xd9]) ? "" : JPEG_ENDS;
}

/** The chunk EXIF of a WebP, from its TIFF header on; empty without one. */
function exifOfWebp(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let at = 12; at + 8 <= bytes.length; ) {
    const length = view.getUint32(at + 4, true);
    if (text(bytes, at, 4) === "EXIF") {
      const exif = bytes.subarray(at + 8, at + 8 + length);
      return text(exif, 0, 4) === "Exif" ? exif.subarray(6) : exif;
    }
    at += 8 + length + (length % 2);
  }
  return bytes.subarray(0, 0);
}

/** The orientation that a TIFF header gives; 0 where it gives none. */
function orientation(exif) {
  const view = new DataView(exif.buffer, exif.byteOffset, exif.byteLength);
  const little = exif[0] === 0x49;
  try {
    const start = view.getUint32(4, little);
    for (let entry = 0; entry < view.getUint16(start, little); entry++) {
      const at = start + 2 + 12 * entry;
      if (view.getUint16(at, little) === 0x0112) return view.getUint16(at + 8, little);
    }
  } catch (error) {
    if (!(error instanceof RangeError)) throw error; // a header that breaks off says nothing
  }
  return 0;
}

function text(bytes, start, length) {
  return String.fromCharCode(...bytes.subarray(start, start + length));
}

function startsWith(bytes, signature) {
  return signature.every((byte, index) => bytes[index] === byte);
}

/** Whether a signature occurs, sought from the end. */
function find(bytes, signature) {
  let at = bytes.length;
  while ((at = bytes.lastIndexOf(signature[0], at - 1)) >= 0) {
    if (startsWith(bytes.subarray(at), signature)) return true;
    if (at === 0) return false;
  }
  return false;
}
