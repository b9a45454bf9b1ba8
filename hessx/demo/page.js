"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const byId = (id) => document.getElementById(id);
  const explorer = byId("explorer");
  const shapes = [...explorer.querySelectorAll(".segment")];
  let kept = data.start;

  const signed = (value, places) =>
    (value < 0 ? "\u2212" : "+") + Math.abs(value).toFixed(places);
  const withError = (value, error) =>
    signed(value, data.places) + " \u00b1 " + error.toFixed(data.places);

  function color(value, limit) {
    const last = data.colors.length - 1;
    const position = (Math.max(-1, Math.min(1, value / limit)) + 1) / 2 * last;
    const below = Math.min(last - 1, Math.floor(position));
    const mixed = data.colors[below].map((low, channel) =>
      Math.round(low + (position - below) * (data.colors[below + 1][channel] - low)));
    return `rgb(${mixed})`;
  }

  function interactionsOf(segment) {
    const found = [];
    data.hessian[segment].forEach((value, other) => {
      const error = data.stderr[segment][other];
      const z = error > 0 ? value / error : 0;
      if (other !== segment) {
        found.push({ other, value, error, z, faint: Math.abs(z) < data.faintBelow });
      }
    });
    return found.sort((a, b) => a.faint - b.faint || Math.abs(b.value) - Math.abs(a.value));
  }

  function row({ other, value, error, z, faint }, limit) {
    const line = document.createElement("tr");
    line.dataset.segment = other;
    line.classList.toggle("faint", faint);
    const cells = ["segment " + other, withError(value, error), signed(z, 1)];
    for (const text of cells) {
      const cell = document.createElement("td");
      cell.textContent = text;
      line.append(cell);
    }
    const swatch = document.createElement("span");
    swatch.className = "swatch";
    swatch.style.background = color(value, limit);
    swatch.style.opacity = faint ? 0.35 : 1;
    line.firstChild.prepend(swatch);
    return line;
  }

  function show(segment) {
    const found = interactionsOf(segment);
    const clear = found.filter((each) => !each.faint);
    const limit =
      Math.max(...(clear.length ? clear : found).map((each) => Math.abs(each.value))) || 1;
    for (const { other, value, faint } of found) {
      shapes[other].style.fill = color(value, limit);
      shapes[other].style.fillOpacity = faint ? 0.25 : 1;
    }
    shapes[segment].style.fill = "transparent";
    byId("chosen").setAttribute("href", "#s" + segment);
    byId("partner").removeAttribute("href");
    byId("name").textContent = "Segment " + segment;
    byId("size").textContent = data.pixels[segment].toLocaleString("en") + " pixels";
    byId("gradient").textContent = signed(data.gradient[segment], 3);
    byId("curvature").textContent =
      withError(data.hessian[segment][segment], data.stderr[segment][segment]);
    byId("interactions").replaceChildren(...found.map((each) => row(each, limit)));
    byId("low").textContent = signed(-limit, 2);
    byId("high").textContent = signed(limit, 2);
  }

  function keep(segment) {
    kept = segment;
    history.replaceState(null, "", "#segment=" + segment);
    show(segment);
  }

  function fromAddress() {
    const match = /^#segment=(\d+)$/.exec(location.hash);
    if (match && Number(match[1]) < shapes.length) {
      kept = Number(match[1]);
      return true;
    }
    return false;
  }

  const segmentOf = (event) => {
    const holder = event.target.closest("[data-segment]");
    return holder ? Number(holder.dataset.segment) : null;
  };

  explorer.addEventListener("pointerover", (event) => {
    const segment = segmentOf(event);
    if (segment !== null && event.pointerType === "mouse") show(segment);
  });
  explorer.addEventListener("pointerleave", () => show(kept));
  explorer.addEventListener("click", (event) => {
    const segment = segmentOf(event);
    if (segment !== null) keep(segment);
  });

  const directions = {
    ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1],
  };
  explorer.addEventListener("keydown", (event) => {
    const direction = directions[event.key];
    if (!direction) return;
    event.preventDefault();
    const [x, y] = data.centres[kept];
    let nearest = kept;
    let least = Infinity;
    data.centres.forEach(([a, b], segment) => {
      const ahead = (a - x) * direction[0] + (b - y) * direction[1];
      const aside = Math.abs((a - x) * direction[1]) + Math.abs((b - y) * direction[0]);
      if (segment !== kept && ahead > 0 && ahead + 2 * aside < least) {
        least = ahead + 2 * aside;
        nearest = segment;
      }
    });
    keep(nearest);
  });

  const list = byId("interactions");
  list.addEventListener("pointerover", (event) => {
    const segment = segmentOf(event);
    if (segment !== null) byId("partner").setAttribute("href", "#s" + segment);
  });
  list.addEventListener("pointerleave", () => byId("partner").removeAttribute("href"));
  list.addEventListener("click", (event) => {
    const segment = segmentOf(event);
    if (segment !== null) keep(segment);
  });

  for (const figure of document.querySelectorAll("figure:has(.lines)")) {
    const drawing = figure.querySelector(".lines");
    const parts = [...figure.querySelectorAll("[data-pair]")];
    const pick = (pair) => {
      drawing.classList.toggle("picked", pair !== null);
      for (const part of parts) part.classList.toggle("active", part.dataset.pair === pair);
    };
    figure.addEventListener("pointerover", (event) => {
      const part = event.target.closest("[data-pair]");
      pick(part ? part.dataset.pair : null);
    });
    figure.addEventListener("pointerleave", () => pick(null));
  }

  addEventListener("hashchange", () => {
    if (!fromAddress()) return;
    show(kept);
    explorer.scrollIntoView({ behavior: "smooth", block: "nearest" });
  });
  fromAddress();
  show(kept);
})();
