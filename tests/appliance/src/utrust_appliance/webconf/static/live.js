/*
Copyright (c) 2026, The keyops.utrust authors
GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
SPDX-License-Identifier: GPL-3.0-or-later
*/
// Elements with a URL in data-live are polled every second and replaced after a change.
// A number in data-seconds counts down. Without this script, a reload shows the same content.
"use strict";

const PAUSE = 1000;

async function refresh(place) {
  const response = await fetch(place.dataset.live, { headers: { "If-None-Match": place.dataset.version }, cache: "no-store" });
  if (response.status === 401) {
    location.reload(); // the session has ended
    return false;
  }
  if (response.status === 200) {
    place.dataset.version = response.headers.get("ETag");
    replace(place, await response.text());
  }
  return place.querySelector("[data-done]") === null;
}

function replace(place, text) {
  const focused = place.contains(document.activeElement) ? document.activeElement.id : null;
  place.innerHTML = text;
  const next = (focused && document.getElementById(focused)) || place.querySelector("[autofocus]:not([disabled])");
  if (next && focused !== null) {
    next.focus();
  }
  place.dispatchEvent(new Event("replaced", { bubbles: true }));
}

async function follow(place) {
  for (let more = true; more; ) {
    await new Promise((done) => setTimeout(done, PAUSE));
    try {
      more = await refresh(place);
    } catch {
      // The node does not respond now. The next poll tries again.
    }
  }
}

function countDown() {
  for (const place of document.querySelectorAll("[data-seconds]")) {
    place.dataset.end ??= String(performance.now() + 1000 * Number(place.dataset.seconds));
    place.textContent = String(Math.max(0, Math.ceil((Number(place.dataset.end) - performance.now()) / 1000)));
  }
}

for (const place of document.querySelectorAll("[data-live]")) {
  follow(place);
}
countDown();
setInterval(countDown, 250);
