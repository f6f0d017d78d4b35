"use strict";
// Tables are sorted by a click on a heading.
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  table.querySelectorAll("thead button").forEach((button) => {
    const heading = button.closest("th");
    button.addEventListener("click", () => {
      const down = heading.getAttribute("aria-sort") === "ascending";
      for (const other of table.querySelectorAll("th[aria-sort]")) other.removeAttribute("aria-sort");
      heading.setAttribute("aria-sort", down ? "descending" : "ascending");
      const value = (row) => {
        const cell = row.cells[heading.cellIndex];
        if (!("value" in cell.dataset)) return cell.textContent.trim();
        return cell.dataset.value === "" ? null : Number(cell.dataset.value);
      };
      const order = (a, b) => {
        const [x, y] = [value(a), value(b)];
        if (x === null || y === null) return (x === null) - (y === null); // without a value: last
        const way = typeof x === "number" && typeof y === "number" ? x - y : String(x).localeCompare(String(y));
        return down ? -way : way;
      };
      body.append(...[...body.rows].sort(order));
    });
  });
}

// Pictures are enlarged, alone or beside their other versions, all at the same place.
const viewer = document.getElementById("viewer");
if (viewer) {
  const panes = document.getElementById("panes");
  const rows = [...document.querySelectorAll(".photograph")].map((row) => ({
    name: row.querySelector(".name").textContent,
    cells: [...row.querySelectorAll("figure")].map((figure) => ({
      image: figure.querySelector("img"),
      caption: figure.querySelector("figcaption").textContent.trim(),
    })),
  }));
  const at = { row: 0, cell: 0, all: false, zoom: 1, x: 0.5, y: 0.5 };
  const clamp = (value, low, high) => Math.min(high, Math.max(low, value));

  const place = () => {
    at.zoom = clamp(at.zoom, 1, 16);
    const margin = 0.5 / at.zoom;
    at.x = clamp(at.x, margin, 1 - margin);
    at.y = clamp(at.y, margin, 1 - margin);
    panes.style.setProperty("--zoom", at.zoom);
    panes.style.setProperty("--x", `${(0.5 - at.x) * 100}%`);
    panes.style.setProperty("--y", `${(0.5 - at.y) * 100}%`);
    document.getElementById("viewer-zoom").textContent = `${at.zoom.toFixed(at.zoom < 10 ? 1 : 0)}×`;
  };
  // The number of columns that makes the squares largest.
  const fit = (count) => {
    const [width, height] = [viewer.clientWidth - 24, panes.clientHeight - 8];
    let best = { side: 0, across: 1 };
    for (let across = 1; across <= count; across++) {
      const down = Math.ceil(count / across);
      const side = Math.min((width - 8 * across) / across, (height - 32 * down) / down);
      if (side > best.side) best = { side, across };
    }
    panes.style.setProperty("--pane", `${Math.max(best.side, 96)}px`);
    panes.style.setProperty("--across", best.across);
  };
  const show = () => {
    const row = rows[at.row];
    at.cell = clamp(at.cell, 0, row.cells.length - 1);
    const cells = at.all ? row.cells : [row.cells[at.cell]];
    document.getElementById("viewer-name").textContent =
      `${row.name}, picture ${at.row + 1} of ${rows.length}` + (at.all ? "" : ` — ${row.cells[at.cell].caption}`);
    viewer.querySelector("[data-do=all]").setAttribute("aria-pressed", at.all);
    panes.replaceChildren(...cells.map((cell) => {
      const pane = document.createElement("figure");
      pane.className = "pane";
      const frame = document.createElement("div");
      frame.className = "window";
      const image = new Image();
      image.src = cell.image.src;
      image.alt = cell.image.alt;
      image.draggable = false;
      frame.append(image);
      const caption = document.createElement("figcaption");
      caption.textContent = cell.caption;
      pane.append(frame, caption);
      return pane;
    }));
    fit(cells.length);
    place();
  };
  const zoom = (factor, x = at.x, y = at.y) => {
    // What lies at (x, y) stays where it is.
    const before = at.zoom;
    at.zoom = clamp(at.zoom * factor, 1, 16);
    at.x = x + ((at.x - x) * before) / at.zoom;
    at.y = y + ((at.y - y) * before) / at.zoom;
    place();
  };
  const other = (rowStep, cellStep) => {
    at.row = (at.row + rowStep + rows.length) % rows.length;
    at.cell = (at.cell + cellStep + rows[at.row].cells.length) % rows[at.row].cells.length;
    show();
  };
  const sideways = (step) => (at.all ? other(step, 0) : other(0, step));
  const move = (x, y) => { at.x += x / at.zoom; at.y += y / at.zoom; place(); };
  const toggle = () => { at.all = !at.all; show(); };
  const whole = () => { at.zoom = 1; place(); };
  const actions = {
    previous: () => sideways(-1), next: () => sideways(1), all: toggle, in: () => zoom(1.5),
    out: () => zoom(1 / 1.5), reset: whole, close: () => viewer.close(),
  };
  viewer.addEventListener("click", (event) => {
    const name = event.target.closest("[data-do]")?.dataset.do;
    if (name) actions[name]();
  });
  viewer.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const arrows = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const arrow = arrows[event.key];
    if (arrow && event.shiftKey) move(0.1 * arrow[0], 0.1 * arrow[1]);
    else if (arrow && arrow[0]) sideways(arrow[0]);
    else if (arrow) other(arrow[1], 0);
    else if (event.key === "+" || event.key === "=") zoom(1.5);
    else if (event.key === "-") zoom(1 / 1.5);
    else if (event.key === "0") whole();
    else if (event.key === "a") toggle();
    else return;
    event.preventDefault();
  });
  const within = (frame, event) => {
    const box = frame.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
  };
  panes.addEventListener("wheel", (event) => {
    const frame = event.target.closest(".window");
    if (!frame) return;
    event.preventDefault();
    const [u, v] = within(frame, event);
    zoom(event.deltaY < 0 ? 1.25 : 0.8, at.x + (u - 0.5) / at.zoom, at.y + (v - 0.5) / at.zoom);
  }, { passive: false });
  panes.addEventListener("pointerdown", (event) => {
    const frame = event.target.closest(".window");
    if (!frame) return;
    let last = within(frame, event);
    frame.setPointerCapture(event.pointerId);
    const drag = (moved) => {
      const now = within(frame, moved);
      move(last[0] - now[0], last[1] - now[1]);
      last = now;
    };
    frame.addEventListener("pointermove", drag);
    const stop = () => frame.removeEventListener("pointermove", drag);
    frame.addEventListener("pointerup", stop, { once: true });
    frame.addEventListener("pointercancel", stop, { once: true });
  });
  addEventListener("resize", () => { if (viewer.open) show(); });
  rows.forEach((row, rowIndex) => row.cells.forEach((cell, cellIndex) => {
    cell.image.closest("button").addEventListener("click", () => {
      Object.assign(at, { row: rowIndex, cell: cellIndex, zoom: 1, x: 0.5, y: 0.5 });
      viewer.showModal();
      show();
    });
  }));
}

// Plots, in the colors of the page.
if (typeof Plotly !== "undefined") {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const themed = (layout) => {
    const axis = { gridcolor: color("--line"), zerolinecolor: color("--line"), linecolor: color("--soft"), automargin: true };
    const changed = {
      ...layout,
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { color: color("--ink"), family: color("--plain"), size: 12 },
      legend: { ...layout.legend, orientation: "h", yanchor: "top", y: -0.22, x: 0, bgcolor: "rgba(0,0,0,0)" },
      hoverlabel: { font: { size: 11 }, align: "left" },
      modebar: { bgcolor: "rgba(0,0,0,0)", color: color("--line"), activecolor: color("--accent") },
    };
    for (const key of Object.keys(layout).concat(["xaxis", "yaxis"]))
      if (/^[xy]axis\d*$/.test(key)) changed[key] = { ...layout[key], ...axis };
    return changed;
  };
  const draw = (place) => {
    const figure = JSON.parse(place.nextElementSibling.textContent);
    const own = figure.layout.margin ?? {};
    const layout = themed({ ...figure.layout, height: Number(place.dataset.height), autosize: true, margin: { l: 55, r: 20, t: 30, b: 50, ...own } });
    for (const note of figure.layout.annotations ?? []) note.font = { ...note.font, color: color("--ink") };
    const config = { responsive: true, displaylogo: false, modeBarButtonsToRemove: ["lasso2d", "select2d", "toImage"] };
    return Plotly.react(place, figure.data, layout, config);
  };
  const places = [...document.querySelectorAll(".plot")];
  const drawAll = async () => {
    for (const place of places) {
      await draw(place);
      await new Promise((resume) => setTimeout(resume));
    }
    document.documentElement.dataset.plots = "drawn";
  };
  drawAll();
  dark.addEventListener("change", drawAll);
}
