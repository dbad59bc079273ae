// Keeps a page up to date. Without it every page is whole, and as old as its loading.
"use strict";

const live = document.getElementById("live");
const state = document.getElementById("state");
const again = 5000; // milliseconds until a stream that was refused is asked for again
let busy = false;
let waiting = false;

function say(text) {
  if (state.textContent !== text) state.textContent = text;
}

// Times are written in UTC; the reader's own clock is what a page shows, with UTC as its title.
function local(root) {
  for (const time of root.querySelectorAll("time[datetime]")) {
    const shown = new Date(time.dateTime).toLocaleString(undefined, { timeZoneName: "short" });
    if (time.classList.contains("age")) time.title = `${shown} (${time.dateTime})`;
    else {
      time.title = time.dateTime;
      time.textContent = shown;
    }
  }
}

// Everything but the filters, which somebody may be filling in, comes from the fresh page.
function swap(fresh) {
  local(fresh);
  const focused = document.activeElement && document.activeElement.getAttribute("href");
  const kept = live.querySelector("form.filters");
  const children = [...fresh.childNodes];
  const place = children.indexOf(fresh.querySelector("form.filters"));
  if (kept && place >= 0) {
    for (const child of [...live.childNodes]) if (child !== kept) child.remove();
    live.prepend(...children.slice(0, place));
    live.append(...children.slice(place + 1));
  } else {
    live.replaceChildren(...children);
  }
  if (focused) {
    const link = [...live.querySelectorAll("a[href]")].find((a) => a.getAttribute("href") === focused);
    if (link) link.focus({ preventScroll: true });
  }
}

async function refresh() {
  const selecting = !window.getSelection().isCollapsed;
  if (busy || selecting || document.visibilityState === "hidden") {
    waiting = true;
    return;
  }
  busy = true;
  waiting = false;
  try {
    const answer = await fetch(location.href, { signal: AbortSignal.timeout(20000) });
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("live");
    if (fresh && answer.status < 500) swap(fresh);
  } catch {
    say("not live: the server does not answer");
  } finally {
    busy = false;
  }
  if (waiting) setTimeout(refresh, 250);
}

function follow() {
  const stream = new EventSource(live.dataset.events);
  stream.addEventListener("hello", () => {
    if (state.textContent.startsWith("not live")) refresh();
    say("live");
  });
  stream.addEventListener("change", refresh);
  stream.addEventListener("tick", refresh);
  stream.addEventListener("error", () => {
    say("not live: connecting again");
    if (stream.readyState === EventSource.CLOSED) setTimeout(follow, again);
  });
  // A connection that is left open by a page that is gone would take the place of another one.
  window.addEventListener("pagehide", () => stream.close(), { once: true });
}

document.addEventListener("visibilitychange", () => {
  if (waiting) refresh();
});
document.addEventListener("selectionchange", () => {
  if (waiting && window.getSelection().isCollapsed) refresh();
});
window.addEventListener("pageshow", (event) => {
  if (event.persisted && live.dataset.events) follow();
});
local(live);
if (live.dataset.events) follow();
