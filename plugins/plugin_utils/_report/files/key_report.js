// Copyright (c) 2026, The keyops.utrust authors
// GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

"use strict";
(() => {
  // Without this script the page shows every row and hides the filter.
  const [filter, words, only, count] = ["filter", "words", "only", "count"].map((id) => document.getElementById(id));
  const rows = [...document.querySelectorAll("#matrix tr[data-cells]")].map((row) => ({
    row,
    text: row.textContent.toLowerCase(),
    cells: row.dataset.cells.split(" "),
  }));
  const matches = (cells) => only.value === "" || (only.value === "out_of_sync" ? cells.join() !== "present" : cells.includes(only.value));
  const show = () => {
    const terms = words.value.toLowerCase().split(/\s+/);
    let shown = 0;
    for (const { row, text, cells } of rows) {
      row.hidden = !(matches(cells) && terms.every((term) => text.includes(term)));
      shown += row.hidden ? 0 : 1;
    }
    count.textContent = `${shown} of ${rows.length} keys`;
  };
  filter.hidden = rows.length === 0;
  words.addEventListener("input", show);
  only.addEventListener("change", show);
  show();
})();
