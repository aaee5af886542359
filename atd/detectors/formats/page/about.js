/* What the page says of its detector. */

import { counted, element, number } from "./words.js";

const $ = (id) => document.getElementById(id);

/**
 * Fills in the page's heading and foot.
 * @param {object} manifest What lies in manifest.json.
 * @param {{verified: boolean, deviation: number}} found How the detector was checked here.
 * @returns {{threshold: number | null, note: string, calibration: number[]}} What decisions and
 *   their explanation need.
 */
export function introduce(manifest, found) {
  const { name, kind, input, classes } = manifest;
  document.title = `${name} · out-of-distribution detector`;
  $("name").textContent = name;
  $("facts").textContent = `${kind} detector · ${sizeOf(input)} ${coloursOf(input)}`;
  if (classes?.length > 1) $("classes").textContent = ` (${listed(classes)})`;
  for (const [term, text] of rows(manifest, found)) {
    $("about").append(element("dt", term), element("dd", text));
  }
  const isSet = typeof manifest.threshold === "number";
  return {
    threshold: isSet ? manifest.threshold : null,
    note: isSet ? manifest.threshold_note : "",
    calibration: manifest.calibration.scores,
  };
}

function rows({ threshold, threshold_note, input, calibration, files }, { verified, deviation }) {
  const rule = "A picture whose score lies above it is called out-of-distribution.";
  const isSet = typeof threshold === "number";
  const images = calibration.scores.length;
  const digest = files["detector.onnx"].sha256.slice(0, 16);
  return [
    ["Threshold", isSet ? `${number(threshold)}: ${threshold_note}. ${rule}` : "none is set"],
    ["Calibrated with", images ? counted(images, "picture") : "no pictures"],
    [
      "What it sees",
      `the largest centred square, resized to ${sizeOf(input)}, in ${coloursOf(input)}`,
    ],
    ["Checked", `this browser computes the detector's scores to ${deviation.toPrecision(1)}`],
    ["Its file", `SHA-256 ${digest}…${verified ? ", verified" : ""}`],
  ];
}

function sizeOf({ shape }) {
  return `${shape[3]} × ${shape[2]}`;
}

function coloursOf({ shape }) {
  return shape[1] === 1 ? "grey" : "colour";
}

function listed(names) {
  const shown = names.slice(0, 12).join(", ");
  return names.length > 12 ? `${shown} and ${names.length - 12} others` : shown;
}
