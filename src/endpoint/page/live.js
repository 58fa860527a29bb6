// Keeps the page up to date: each section that changed arrives as the HTML that the page would have.
"use strict";

// How long nothing at all may arrive before the page says that it is old; a quiet server speaks every 14 s.
const SILENCE_MAX_MS = 20000;

const badge = document.createElement("p");
badge.id = "live";
document.body.append(badge);

let timer = 0;

function tell(word, state) {
  badge.className = state;
  badge.textContent = word;
}

function heard() {
  clearTimeout(timer);
  tell("live", "good");
  timer = setTimeout(lost, SILENCE_MAX_MS);
}

function lost() {
  const clock = new Date().toLocaleTimeString();
  if (badge.className !== "bad") tell(`not live since ${clock}; trying again`, "bad");
}

// What a person did to the page outlives the replacement: focus, what is unfolded, what is scrolled.
function replace(id, html) {
  const old = document.getElementById(id);
  if (!old) return location.reload();
  const template = document.createElement("template");
  template.innerHTML = html;
  const fresh = template.content.firstElementChild;
  if (!fresh || fresh.outerHTML === old.outerHTML) return;
  const focused = old.contains(document.activeElement) ? document.activeElement : null;
  for (const details of old.querySelectorAll("details[open][id]")) {
    const same = fresh.querySelector(`#${CSS.escape(details.id)}`);
    if (same) same.open = true;
  }
  const scrolled = [...old.querySelectorAll(".scroll")].map((element) => element.scrollLeft);
  const places = focused ? [...old.querySelectorAll("a, summary, [tabindex]")].indexOf(focused) : -1;
  // The whole element is exchanged only where that cannot be heard: a status is spoken when its text changes.
  const status = old.querySelector("[role=status]");
  const news = fresh.querySelector("[role=status]");
  if (status && news) {
    if (status.innerHTML !== news.innerHTML) status.innerHTML = news.innerHTML;
    news.replaceWith(status);
  }
  old.replaceWith(fresh);
  fresh.querySelectorAll(".scroll").forEach((element, at) => {
    element.scrollLeft = scrolled[at] ?? element.scrollWidth;
  });
  if (focused) {
    const again = focused.id
      ? document.getElementById(focused.id)
      : fresh.querySelectorAll("a, summary, [tabindex]")[places];
    again?.focus({ preventScroll: true });
  }
  if (fresh.dataset.title) document.title = fresh.dataset.title;
}

// The newest hours are at the end.
for (const element of document.querySelectorAll("#heat .scroll")) element.scrollLeft = element.scrollWidth;

// What arrived since the stream began, until its first batch is over. A page that has more is of another time.
let arrived = null;

function arrive(id) {
  arrived?.add(id);
  if (!arrived || id !== "alerts") return;
  const gone = [...document.querySelectorAll(".card, #near")].some((element) => !arrived.has(element.id));
  arrived = null;
  if (gone) location.reload();
}

tell("connecting", "dim");
const stream = new EventSource(`events${location.search}`);
stream.addEventListener("open", () => {
  heard();
  arrived = new Set();
});
stream.addEventListener("section", (event) => {
  heard();
  const { id, html } = JSON.parse(event.data);
  replace(id, html);
  arrive(id);
});
stream.addEventListener("alive", heard);
stream.addEventListener("reload", () => location.reload());
stream.addEventListener("error", () => {
  lost();
  // The browser gives up on an answer that is no stream, as while too many pages are open.
  if (stream.readyState === EventSource.CLOSED) setTimeout(() => location.reload(), SILENCE_MAX_MS);
});
addEventListener("pagehide", () => stream.close());
