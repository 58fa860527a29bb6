// Live updates: replaces each section that changed by the HTML that the server sends.
"use strict";

// Silence after which the page reports that it is not live. The server sends an event at least
// every 14 s.
const SILENCE_MAX_MS = 20000;

const badge = document.createElement("p");
badge.id = "live";
document.body.append(badge);

let silenceTimer = 0;

function setBadge(text, className) {
  badge.className = className;
  badge.textContent = text;
}

function onActivity() {
  clearTimeout(silenceTimer);
  setBadge("live", "good");
  silenceTimer = setTimeout(onDisconnect, SILENCE_MAX_MS);
}

function onDisconnect() {
  const clock = new Date().toLocaleTimeString();
  if (badge.className !== "bad") setBadge(`not live since ${clock}; reconnecting`, "bad");
}

// Keeps what the user did across the replacement: focus, open details, scroll positions.
function replaceSection(id, html) {
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
  const scrollPositions = [...old.querySelectorAll(".scroll")].map((element) => element.scrollLeft);
  const focusable = [...old.querySelectorAll("a, summary, [tabindex]")];
  const focusIndex = focused ? focusable.indexOf(focused) : -1;
  // Keeps the status element: screen readers announce a change of its text, not a new element.
  const status = old.querySelector("[role=status]");
  const freshStatus = fresh.querySelector("[role=status]");
  if (status && freshStatus) {
    if (status.innerHTML !== freshStatus.innerHTML) status.innerHTML = freshStatus.innerHTML;
    freshStatus.replaceWith(status);
  }
  old.replaceWith(fresh);
  fresh.querySelectorAll(".scroll").forEach((element, index) => {
    element.scrollLeft = scrollPositions[index] ?? element.scrollWidth;
  });
  if (focused) {
    const target = focused.id
      ? document.getElementById(focused.id)
      : fresh.querySelectorAll("a, summary, [tabindex]")[focusIndex];
    target?.focus({ preventScroll: true });
  }
  if (fresh.dataset.title) document.title = fresh.dataset.title;
}

// Shows the newest hours, which are at the end.
for (const element of document.querySelectorAll("#heat .scroll")) element.scrollLeft = element.scrollWidth;

// Ids of the first batch of sections, which ends with `alerts`. A page with sections that are not
// among them is outdated and reloads.
let receivedIds = null;

function onReceived(id) {
  receivedIds?.add(id);
  if (!receivedIds || id !== "alerts") return;
  const elements = [...document.querySelectorAll(".card, #source-detail")];
  const hasRemoved = elements.some((element) => !receivedIds.has(element.id));
  receivedIds = null;
  if (hasRemoved) location.reload();
}

setBadge("connecting", "dim");
const stream = new EventSource(`events${location.search}`);
stream.addEventListener("open", () => {
  onActivity();
  receivedIds = new Set();
});
stream.addEventListener("section", (event) => {
  onActivity();
  const { id, html } = JSON.parse(event.data);
  replaceSection(id, html);
  onReceived(id);
});
stream.addEventListener("keep-alive", onActivity);
stream.addEventListener("reload", () => location.reload());
stream.addEventListener("error", () => {
  onDisconnect();
  // The browser does not reconnect after an error response, such as for too many event streams.
  if (stream.readyState === EventSource.CLOSED) setTimeout(() => location.reload(), SILENCE_MAX_MS);
});
addEventListener("pagehide", () => stream.close());
