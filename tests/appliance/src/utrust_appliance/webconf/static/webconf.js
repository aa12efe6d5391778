/*
Copyright (c) 2026, The keyops.utrust authors
GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
SPDX-License-Identifier: GPL-3.0-or-later
*/
// Optional enhancements of the pages.
"use strict";

const WARN_SECONDS = 60;

// Escape closes a dialog like its Cancel button.
const modal = document.querySelector("dialog[data-leave]");
if (modal) {
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") {
      location.assign(modal.dataset.leave);
    }
  });
}

// Prevent duplicate submission of a form.
for (const form of document.querySelectorAll("form[method=post]")) {
  form.addEventListener("submit", (event) => {
    if (form.dataset.sent !== undefined) {
      event.preventDefault();
    }
    form.dataset.sent = "";
    setTimeout(() => delete form.dataset.sent, 2000); // a download does not leave the page
  });
}

// Drag and drop, and file name and size before the upload.
const drop = document.getElementById("drop");
if (drop) {
  const input = document.getElementById("package");
  const chosen = document.getElementById("chosen");
  const limit = Number(document.getElementById("upload-form").dataset.maxBytes);
  const show = () => {
    const file = input.files[0];
    const large = file !== undefined && file.size > limit;
    input.setCustomValidity(large ? `The maximum size is ${limit} bytes.` : "");
    chosen.textContent = file === undefined ? "" : `${file.name}, ${file.size} bytes${large ? `: too large, the maximum size is ${limit} bytes` : ""}`;
  };
  input.addEventListener("change", show);
  for (const kind of ["dragover", "dragleave", "drop"]) {
    drop.addEventListener(kind, (event) => {
      event.preventDefault();
      drop.classList.toggle("over", kind === "dragover");
      if (kind === "drop" && event.dataTransfer.files.length > 0) {
        input.files = event.dataTransfer.files;
        show();
      }
    });
  }
  show();
}

// Warn before a session times out, then show the login page.
const timeout = Number(document.body.dataset.timeout ?? 0);
if (timeout > 0) {
  const warning = document.getElementById("session-ends");
  const left = document.getElementById("session-left");
  const end = performance.now() + 1000 * timeout;
  const tick = setInterval(() => {
    const seconds = (end - performance.now()) / 1000;
    warning.hidden = seconds > Math.min(WARN_SECONDS, timeout / 2);
    left.textContent = String(Math.max(0, Math.ceil(seconds)));
    if (seconds < -1) {
      clearInterval(tick);
      location.assign(location.pathname);
    }
  }, 250);
}
