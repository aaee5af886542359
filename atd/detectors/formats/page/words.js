/* What a score means, in plain words. */

const KINDS = {
  in: { label: "In-distribution", mark: "✓" },
  out: { label: "Out-of-distribution", mark: "▲" },
  scored: { label: "Scored", mark: "•" },
  error: { label: "Unreadable", mark: "✕" },
  waiting: { label: "Waiting", mark: "…" },
};

/** What is decided about a picture: a key of `KINDS`, and its label and mark. */
export function decisionOf(picture, threshold) {
  let kind = "waiting";
  if (picture.error) kind = "error";
  else if (picture.score !== undefined) {
    kind = threshold === null ? "scored" : picture.score > threshold ? "out" : "in";
  }
  return { kind, ...KINDS[kind] };
}

/** A number with four significant digits, and a minus that is as wide as a plus. */
export function number(value) {
  const text =
    Math.abs(value) >= 1e5 ? value.toExponential(3) : String(Number(value.toPrecision(4)));
  return text.replace("-", "−");
}

/** Sentences on where a score stands: against the threshold, and among the calibration scores. */
export function explain(score, { threshold, note, calibration }) {
  const said = [];
  if (threshold === null) {
    said.push(
      `The score is ${number(score)}; a larger one means more likely out-of-distribution. This ` +
        "detector has no threshold, so nothing is decided: set one with atd.calibrate and export again.",
    );
  } else {
    const above = score > threshold;
    said.push(
      `The score, ${number(score)}, lies ${above ? "above" : "at or below"} the threshold, ` +
        `${number(threshold)}${note ? ` (${note})` : ""}. So the picture counts as ` +
        (above
          ? "out-of-distribution: unlike those that the detector was made for."
          : "in-distribution: like those that the detector was made for."),
    );
  }
  if (calibration.length) said.push(rank(score, calibration));
  return said;
}

function rank(score, calibration) {
  const higher = calibration.filter((value) => value >= score).length;
  const total = calibration.length.toLocaleString("en");
  if (higher === 0) {
    return `None of the ${total} in-distribution pictures it was calibrated with has so high a score.`;
  }
  const share = (100 * higher) / calibration.length;
  const percent = share < 1 ? "fewer than 1" : String(Math.round(share));
  return (
    `Of the ${total} in-distribution pictures it was calibrated with, ` +
    `${higher.toLocaleString("en")} (${percent} %) ${higher === 1 ? "has" : "have"} a score as high or higher.`
  );
}

/** An element that holds a text. */
export function element(name, text = "") {
  const made = document.createElement(name);
  made.textContent = text;
  return made;
}

/** "3 pictures", "1 picture". */
export function counted(count, noun) {
  return `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`;
}
