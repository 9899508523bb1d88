// Where each LoRA draws, painted by hand: the lines of the field “Regions” as a picture.
() => {
  const SIDE = 32, REACH = 1.7; // cells a side; of the brush, in cells
  const find = (selector) => document.querySelector(selector);
  const field = () => find("#regions textarea");
  const triggers = () => [...document.querySelectorAll("#chips [data-trigger]")].map((it) => it.dataset.trigger);
  const colour = (place) => `hsl(${(250 + 137 * place) % 360} 75% 55%)`;
  let brush; // the trigger that is painted, or "" to erase
  let stroke; // the regions, while the pointer is down
  let shown; // what the canvas was drawn from

  // Of a line: its trigger, and for every cell whether it is in the region.
  function read(line) {
    const at = line.lastIndexOf("=");
    const shape = line.slice(at + 1).trim();
    const mask = shape.match(/^(\d+)x(\d+):([0-9a-f]+)$/i);
    const within = mask ? drawn(+mask[1], +mask[2], mask[3]) : boxed(shape.split(",").map(Number));
    const cells = Array.from({ length: SIDE * SIDE }, (_, cell) => within((cell % SIDE + 0.5) / SIDE, (Math.floor(cell / SIDE) + 0.5) / SIDE));
    return { trigger: line.slice(0, at).trim(), cells, line };
  }
  const boxed = ([left, top, right, bottom]) => (x, y) => x > left && x < right && y > top && y < bottom;
  const drawn = (wide, high, digits) => (x, y) => {
    const bit = Math.floor(y * high) * wide + Math.floor(x * wide);
    return Boolean((parseInt(digits[bit >> 2], 16) >> (3 - (bit % 4))) & 1);
  };
  const lines = () => field().value.split("\n").filter((line) => line.includes("="));

  function write(region) {
    let digits = "";
    for (let cell = 0; cell < SIDE * SIDE; cell += 4) {
      const four = region.cells.slice(cell, cell + 4);
      digits += four.reduce((sum, drawn) => 2 * sum + drawn, 0).toString(16);
    }
    return `${region.trigger}=${SIDE}x${SIDE}:${digits}`;
  }

  // The cells under the brush become those of its trigger, and of no other one.
  function paint({ clientX, clientY }) {
    const frame = find("#painter canvas").getBoundingClientRect();
    const [x, y] = [((clientX - frame.x) / frame.width) * SIDE, ((clientY - frame.y) / frame.height) * SIDE];
    for (const region of stroke) {
      region.cells.forEach((_, cell) => {
        const away = Math.hypot((cell % SIDE) + 0.5 - x, Math.floor(cell / SIDE) + 0.5 - y);
        const mine = region.trigger === brush;
        if (away > REACH || region.cells[cell] === mine) return;
        region.cells[cell] = mine;
        region.changed = true;
      });
    }
    fill(stroke);
  }

  function begin() {
    stroke = lines().map(read);
    if (brush && !stroke.some((it) => it.trigger === brush)) stroke.push({ trigger: brush, cells: Array(SIDE * SIDE).fill(false) });
  }

  // Only what was painted is written anew: a box that nobody touched stays a box.
  function end() {
    const left = stroke.filter((it) => it.cells.includes(true));
    stroke = undefined;
    globalThis.iteris.type("#regions textarea", () => left.map((it) => (it.changed ? write(it) : it.line)).join("\n"));
  }

  function show() {
    if (!field() || !find("#painter canvas") || stroke) return;
    const [names, size] = [triggers(), find("#size input, #size textarea")?.value.match(/^\s*(\d+)\s*x\s*(\d+)/)];
    if (!names.includes(brush) && brush !== "") brush = names[0];
    const picture = find("#pictures img")?.src;
    const state = JSON.stringify([field().value, names, brush, size, picture]);
    if (state === shown && find("#painter .brushes").children.length) return;
    shown = state;
    const canvas = find("#painter canvas");
    canvas.style.aspectRatio = size ? `${size[1]} / ${size[2]}` : "1";
    canvas.style.backgroundImage = picture ? `url("${picture}")` : "none";
    fill(lines().map(read));
    offer(names);
  }

  function fill(regions) {
    const [names, pen] = [triggers(), find("#painter canvas").getContext("2d")];
    pen.clearRect(0, 0, SIDE, SIDE);
    pen.globalAlpha = 0.6; // the picture below is seen through
    for (const { trigger, cells } of regions) {
      pen.fillStyle = colour(names.indexOf(trigger));
      cells.forEach((drawn, cell) => drawn && pen.fillRect(cell % SIDE, Math.floor(cell / SIDE), 1, 1));
    }
  }

  function offer(names) {
    const button = (label, choice, tint) => {
      const made = Object.assign(document.createElement("button"), { type: "button", className: "chip", textContent: label });
      Object.assign(made.dataset, { brush: choice });
      made.ariaPressed = String(choice === brush);
      if (tint) made.style.setProperty("--tint", tint);
      return made;
    };
    const brushes = names.map((name, place) => button(name, name, colour(place)));
    find("#painter .brushes").replaceChildren(...brushes, button("Erase", ""));
  }

  document.addEventListener("click", ({ target }) => {
    const chosen = target.closest("[data-brush]")?.dataset.brush;
    if (chosen === undefined) return;
    brush = chosen;
    show();
    find(`#painter [data-brush="${CSS.escape(brush)}"]`)?.focus();
  });
  document.addEventListener("pointerdown", (event) => {
    if (!event.target.matches("#painter canvas") || brush === undefined) return;
    event.preventDefault();
    event.target.setPointerCapture(event.pointerId);
    begin();
    paint(event);
  });
  document.addEventListener("pointermove", (event) => stroke && paint(event));
  for (const name of ["pointerup", "pointercancel"]) document.addEventListener(name, () => stroke && end());
  setInterval(show, 400); // triggers, size and the field are changed by the server, too
}
