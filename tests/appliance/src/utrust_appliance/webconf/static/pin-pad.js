/*
Copyright (c) 2026, The keyops.utrust authors
GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
SPDX-License-Identifier: GPL-3.0-or-later
*/
// The keypad writes digits to the password field of the display. OK sends them in the body of one request.
"use strict";

const field = () => document.getElementById("pin");

function press(digit) {
  const pin = field();
  if (!pin.disabled && pin.value.length < pin.maxLength) {
    pin.value += digit;
  }
}

document.addEventListener("click", (event) => {
  const key = event.target.closest("[data-digit], [data-clear]");
  if (key && key.dataset.digit !== undefined) {
    press(key.dataset.digit);
  } else if (key) {
    field().value = "";
  }
});

// The keyboard works without focus. Enter on a focused card or button activates this card or button.
document.addEventListener("keydown", (event) => {
  const pin = field();
  if (pin === null || pin.disabled || event.target === pin || event.ctrlKey || event.altKey || event.metaKey) {
    return;
  }
  if (/^[0-9]$/.test(event.key)) {
    press(event.key);
    pin.focus();
    event.preventDefault();
  } else if (event.key === "Backspace") {
    pin.value = pin.value.slice(0, -1);
    pin.focus();
  }
});

// Phones need not show another keypad.
function quiet() {
  field()?.setAttribute("inputmode", "none");
}
document.addEventListener("replaced", quiet);
quiet();
