// Keeps the page as fresh as the node is. The page is complete without this: it only replaces elements by newer ones
// the server made (event `put`), removes rows (`drop`), filters while one types, and keeps "3 min ago" true.
"use strict";

const stream = document.body.dataset.live;
const status = document.getElementById("live");
const field = document.getElementById("q");
let source = null;
let again = 0;

function say(text, state) {
  if (status.textContent !== text) status.textContent = text;
  status.dataset.state = state;
}

function open() {
  close();
  const search = field ? field.value.trim() : "";
  source = new EventSource(search ? `${stream}?q=${encodeURIComponent(search)}` : stream);
  source.addEventListener("put", (event) => put(event.data));
  source.addEventListener("drop", (event) => document.getElementById(event.data)?.remove());
  source.onopen = () => say("Live", "live");
  source.onerror = () => {
    say("Not live, trying again …", "lost");
    // After an answer that is no stream (too many windows, say) the browser does not try again by itself.
    if (source.readyState === EventSource.CLOSED) again = setTimeout(open, 10000);
  };
}

function close() {
  clearTimeout(again);
  source?.close();
  source = null;
}

// One element, made and escaped by the server; it takes the place of the one with its id.
function put(markup) {
  const template = document.createElement("template");
  template.innerHTML = markup;
  const next = template.content.firstElementChild;
  const old = document.getElementById(next.id);
  const focus = old?.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
  if (next.dataset.title) document.title = next.dataset.title;
  if (next.dataset.key === undefined) {
    old?.replaceWith(next);
  } else if (old?.dataset.key === next.dataset.key) {
    old.replaceWith(next);
  } else {
    old?.remove();
    const table = document.getElementById("devices");
    const later = [...table.tBodies].find((row) => row.dataset.key > next.dataset.key);
    table.insertBefore(next, later ?? null);
    next.classList.add("moved");
  }
  if (focus) [...next.querySelectorAll("a")].find((link) => link.getAttribute("href") === focus)?.focus();
}

// The same words as the server's (pages/words.rs).
function distance(seconds) {
  const size = Math.abs(seconds);
  if (size < 60) return seconds > 0 ? "in a moment" : "just now";
  const [unit, name] = [
    [5400, 60, "min"],
    [172800, 3600, "h"],
    [8640000, 86400, "days"],
    [94672800, 2629800, "months"],
    [Infinity, 31557600, "years"],
  ].find(([below]) => size < below).slice(1);
  const amount = `${Math.floor(size / unit)} ${name}`;
  return seconds > 0 ? `in ${amount}` : `${amount} ago`;
}

function tick() {
  for (const time of document.querySelectorAll("time[data-relative]")) {
    const text = distance(Math.trunc((Date.parse(time.dateTime) - Date.now()) / 1000));
    if (time.textContent !== text) time.textContent = text;
  }
}

function search(words) {
  const address = words ? `/?q=${encodeURIComponent(words)}` : "/";
  history.replaceState(null, "", address);
  for (const link of document.querySelectorAll("[data-search]")) {
    if (link.dataset.search === words) link.setAttribute("aria-current", "true");
    else link.removeAttribute("aria-current");
  }
  open();
}

if (field) {
  let pause = 0;
  field.form.classList.add("scripted");
  field.addEventListener("input", () => {
    clearTimeout(pause);
    pause = setTimeout(() => search(field.value.trim()), 250);
  });
  field.form.addEventListener("submit", (event) => {
    event.preventDefault();
    clearTimeout(pause);
    search(field.value.trim());
  });
}

// A browser opens six connections per host: a window nobody looks at must not keep one. What it missed comes first
// when it is looked at again.
document.addEventListener("visibilitychange", () => (document.hidden ? close() : open()));
addEventListener("pagehide", close);
addEventListener("pageshow", (event) => event.persisted && open());
setInterval(tick, 10000);
if (!document.hidden) open();
