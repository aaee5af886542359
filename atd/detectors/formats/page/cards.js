/* The list of pictures: a card for each, which opens its explanation. */

import { decisionOf, element, number } from "./words.js";

/** A picture's card, which `show` fills in; `onOpen(picture)` is called when it is chosen. */
export function card(picture, onOpen) {
  const item = element("li");
  const button = element("button");
  button.type = "button";
  button.append(...["frame", "name", "decision", "score"].map((name) => part(name)));
  button.querySelector(".name").textContent = picture.path.split("/").pop();
  button.title = picture.path;
  button.addEventListener("click", () => onOpen(picture));
  item.append(button);
  return item;
}

/** Brings a picture's card up to date. */
export function show(picture, threshold) {
  const { kind, label, mark } = decisionOf(picture, threshold);
  const [frame, , decision, score] = picture.card.firstChild.children;
  picture.card.className = `card ${kind}`;
  decision.replaceChildren(part("mark", mark), label);
  score.textContent =
    picture.error ?? (picture.score === undefined ? "" : `score ${number(picture.score)}`);
  if (picture.thumbnail && !frame.firstChild) {
    const image = new Image();
    image.src = picture.thumbnail;
    image.alt = "";
    frame.append(image);
  }
}

/** A span of a class; most stay empty until there is something to say. */
function part(name, text = "") {
  const made = element("span", text);
  made.className = name;
  if (name === "mark") made.setAttribute("aria-hidden", "true");
  return made;
}

/** Pictures in the order asked for: as given, or those first that are most likely out. */
export function ordered(pictures, order) {
  if (order === "given") return pictures;
  const doubt = ({ error, score }) => (error ? Infinity : (score ?? -Infinity));
  return [...pictures].sort((one, other) => {
    const [left, right] = [doubt(one), doubt(other)];
    return left === right ? 0 : right > left ? 1 : -1;
  });
}
