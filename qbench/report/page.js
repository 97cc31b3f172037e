"use strict";

/* Sorting: a heading's button goes from ascending to descending to the order of the file. */
for (const table of document.querySelectorAll("table.qbench")) {
  const heads = [...table.tHead.rows[0].cells];
  const original = [...table.tBodies];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const order = { ascending: "descending", descending: null }[head.ariaSort];
      for (const other of heads) other.removeAttribute("aria-sort");
      if (order !== null) head.ariaSort = order ?? "ascending";
      table.append(...sorted(original, column, head.ariaSort));
    });
  });
}

/* Rows that have nothing in the column stand last in either order. */
function sorted(bodies, column, order) {
  if (!order) return bodies;
  const sign = order === "ascending" ? 1 : -1;
  const key = (body) => body.rows[0].cells[column].dataset.sort;
  const isMissing = (body) => key(body) === undefined;
  const difference = (a, b) => (Number(a) - Number(b)) || a.localeCompare(b);
  return [...bodies].sort((a, b) =>
    isMissing(a) || isMissing(b) ? isMissing(a) - isMissing(b) : sign * difference(key(a), key(b)));
}

/* Tooltips: the label of a mark, under the pointer or the keyboard's focus. */
const tip = document.createElement("div");
tip.id = "tip";
tip.role = "tooltip";
tip.hidden = true;
document.body.append(tip);

const markOf = (event) => event.target.closest(".chart .role-mark [aria-label]");

function show(mark, x, y) {
  tip.textContent = mark.ariaLabel;
  tip.hidden = false;
  const { width, height } = tip.getBoundingClientRect();
  const left = Math.max(4, Math.min(x + 14, document.documentElement.clientWidth - width - 4));
  const top = y + 18 + height > innerHeight ? Math.max(4, y - height - 12) : y + 18;
  tip.style.left = `${left + scrollX}px`;
  tip.style.top = `${top + scrollY}px`;
}

const hide = () => { tip.hidden = true; };

for (const kind of ["pointerover", "pointermove"]) {
  document.addEventListener(kind, (event) => {
    const mark = markOf(event);
    if (mark) show(mark, event.clientX, event.clientY);
    else hide();
  });
}
document.addEventListener("focusin", (event) => {
  const mark = markOf(event);
  const box = mark?.getBoundingClientRect();
  if (box) show(mark, box.right, box.bottom - 14);
  else hide();
});
document.addEventListener("focusout", hide);
document.addEventListener("keydown", (event) => { if (event.key === "Escape") hide(); });

for (const point of document.querySelectorAll(".chart .mark-symbol.role-mark [aria-label]")) {
  point.tabIndex = 0;
}
