// Rank lists of every query by two methods, one above the other, as notebook 08 shows them. What is shown stands in the
// address after #, so that a link can point at it. The data is the JSON in the page; nothing is asked for.
"use strict";

const data = JSON.parse(document.getElementById("data").textContent);
const form = document.getElementById("choices");
const field = (name) => form.elements[name];
const make = (tag, className, ...content) => {
  const made = document.createElement(tag);
  if (className) made.className = className;
  made.append(...content);
  return made;
};
const draw = (tag, attributes) => {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
};
const SIDE = 200; // of the scatter, in its own units

/** Fill a list of choices with [value, words], keeping what was chosen where it is still there. */
function offer(select, choices, otherwise) {
  const values = choices.map(([value]) => String(value));
  const kept = [select.value, otherwise].find((value) => values.includes(value)) ?? values[0];
  select.replaceChildren(...choices.map(([value, words]) => new Option(words, value)));
  select.value = kept;
}

const chosenSet = () => data.sets.find((one) => one.name === field("set").value);

const current = () => {
  const set = chosenSet();
  const methods = set.seeds[field("seed").value];
  const [upper, lower] = ["upper", "lower"].map((name) => methods.find((one) => one.key === field(name).value));
  return { set, methods, upper, lower };
};

/** What the notebook's rule orders by, the largest first; a query without a match has none and comes last. */
function worth(place, { methods, upper, lower }) {
  const gain = (a, b) => a.ap[place] - b.ap[place];
  if (upper.ap[place] === null) return -Infinity;
  switch (field("rule").value) {
    case "worst":
      return -upper.ap[place];
    case "gain":
      return lower ? gain(upper, lower) : 0;
    case "loss":
      return lower ? gain(lower, upper) : 0;
    case "reranking": {
      const plain = upper.key.replace("-reranked", "");
      const [before, after] = [plain, `${plain}-reranked`].map((key) => methods.find((one) => one.key === key));
      return gain(after, before);
    }
    default:
      return -place;
  }
}

/** Places, in the set's list of queries, of those that the filters leave, in the order of the rule. */
function left(now) {
  const camera = field("camera").value;
  const where = field("where").value;
  const sign = { all: 0, gain: 1, loss: -1 }[where];
  const places = now.set.queries.flatMap(([, , from], place) => {
    const difference = now.lower ? now.upper.ap[place] - now.lower.ap[place] : 0;
    const fits = (camera === "any" || String(from) === camera) && (!sign || !now.lower || sign * difference > 0);
    return fits ? [place] : [];
  });
  const worths = new Map(places.map((place) => [place, worth(place, now)]));
  return places.sort((a, b) => (worths.get(a) === worths.get(b) ? a - b : worths.get(b) - worths.get(a)));
}

function picture(number, words) {
  const cell = number % data.sheet;
  const shown = make("div", `picture sheet-${Math.floor(number / data.sheet)}`);
  shown.setAttribute("role", "img");
  shown.setAttribute("aria-label", words);
  shown.dataset.cell = cell;
  const { width, height } = picture.size;
  shown.style.backgroundPosition = `${-(cell % data.columns) * width}px ${-Math.floor(cell / data.columns) * height}px`;
  return shown;
}

function list(set, place, method) {
  const [number, person, camera, own] = set.queries[place];
  const query = make("li", "query", make("span", "", "query"), picture(own, `query ${number}, person ${person}`), make("small", "", `c${camera}`));
  const found = [];
  for (let at = 0; at < method.lists[place].length; at += 3) {
    const [image, mark, distance] = method.lists[place].slice(at, at + 3);
    const [kind, above] = data.marks[mark];
    const below = make("small", "", `c${data.cameras[image]} · ${distance}`);
    found.push(make("li", kind.replace(" ", "-"), make("span", "", above), picture(image, kind), below));
  }
  const title = make("h2", `model-${method.key.split("-")[0]}`, `${method.title}: ${method.told[place]}`);
  return [title, make("ol", "list", query, ...found)];
}

const signed = (value) => (value < 0 && value.toFixed(2) !== "-0.00" ? "−" : "+") + Math.abs(value).toFixed(2);

function sentence({ set, upper, lower }, place, at, count) {
  const [number, person, camera] = set.queries[place];
  const difference = lower ? ` Upper minus lower AP: ${signed(upper.ap[place] - lower.ap[place])}.` : "";
  const where = at < 0 ? `not among the ${count} that the filters leave` : `${at + 1} of ${count} in this order`;
  return `${set.title}, query ${number}: person ${person}, camera ${camera} (${where}).${difference}`;
}

function scatter({ set, upper, lower }, places, chosen) {
  const svg = document.querySelector("#scatter svg");
  document.getElementById("scatter").hidden = !lower;
  svg.replaceChildren();
  if (!lower) return;
  for (const at of [0, 0.5, 1]) {
    const value = at * SIDE;
    svg.append(draw("line", { x1: value, x2: value, y1: 0, y2: SIDE }), draw("line", { x1: 0, x2: SIDE, y1: value, y2: value }));
    const [below, beside] = [draw("text", { x: value - 5, y: SIDE + 14 }), draw("text", { x: -22, y: SIDE - value + 4 })];
    below.textContent = beside.textContent = at;
    svg.append(below, beside);
  }
  svg.append(draw("line", { x1: 0, y1: SIDE, x2: SIDE, y2: 0 }));
  const dot = (place) => {
    const [x, y] = [lower.ap[place] ?? 0, upper.ap[place] ?? 0];
    const now = place === chosen;
    const made = draw("circle", { cx: x * SIDE, cy: (1 - y) * SIDE, r: now ? 5 : 3.5, class: now ? "now" : "", "data-place": place });
    const title = draw("title", {});
    title.textContent = `query ${set.queries[place][0]}: ${y.toFixed(2)} above, ${x.toFixed(2)} below`;
    made.append(title);
    return made;
  };
  svg.append(...places.filter((place) => place !== chosen).map(dot), dot(chosen));
}

/** Draw what the controls say; `place` is the query's, or the first that the filters leave. */
function show(place) {
  const now = current();
  const places = left(now);
  const wanted = place ?? places[0];
  const says = document.getElementById("says");
  if (wanted === undefined) {
    says.textContent = "No query is left by these filters.";
    document.getElementById("lists").replaceChildren();
    return scatter(now, [], undefined);
  }
  show.place = wanted;
  field("query").value = now.set.queries[wanted][0];
  says.textContent = sentence(now, wanted, places.indexOf(wanted), places.length);
  const methods = [now.upper, now.lower].filter(Boolean);
  document.getElementById("lists").replaceChildren(...methods.flatMap((method) => list(now.set, wanted, method)));
  scatter(now, places, wanted);
  const names = ["set", "seed", "upper", "lower", "query"];
  history.replaceState(null, "", `#${new URLSearchParams(names.map((name) => [name, field(name).value]))}`);
}

/** Offer what the chosen set has, of the chosen seed where it was trained with that. */
function offers() {
  const set = chosenSet();
  offer(field("seed"), Object.keys(set.seeds).map((seed) => [seed, `seed ${seed}`]));
  const methods = set.seeds[field("seed").value].map((one) => [one.key, one.title]);
  const keys = methods.map(([key]) => key).filter((key) => key.endsWith("xqda-reranked"));
  offer(field("upper"), methods, keys.at(-1));
  offer(field("lower"), [...methods, ["none", "(none)"]], keys[0]);
  const cameras = [...new Set(set.queries.map(([, , camera]) => String(camera)))];
  cameras.sort((a, b) => a.localeCompare(b, "en", { numeric: true }));
  offer(field("camera"), [["any", "any"], ...cameras.map((one) => [one, `camera ${one}`])], "any");
}

/** Choose the query of a number; say it where the page does not hold it. */
function go(number) {
  const { set } = current();
  const place = set.queries.findIndex(([own]) => own === number);
  if (place >= 0) return show(place);
  const held = set.queries.length < set.count ? `; the page holds ${set.queries.length} of them` : "";
  document.getElementById("says").textContent = `There is no query ${number} here: ${set.title} has the queries 0 to ${set.count - 1}${held}.`;
}

/** Show what the address says, as far as it says anything. */
function arrive() {
  const asked = new URLSearchParams(location.hash.slice(1));
  for (const name of ["set", "seed", "upper", "lower"]) {
    const options = [...field(name).options].map((option) => option.value);
    if (options.includes(asked.get(name))) field(name).value = asked.get(name);
    offers();
  }
  if (asked.has("query")) go(Number(asked.get("query")));
  else show();
}

function step(by) {
  const places = left(current());
  const at = places.indexOf(show.place);
  if (places.length) show(places[at < 0 ? 0 : (at + by + places.length) % places.length]);
}

if (data.sets.length) {
  const measure = document.body.appendChild(make("div", "picture"));
  picture.size = { width: measure.clientWidth, height: measure.clientHeight };
  measure.remove();
  offer(field("set"), data.sets.map((one) => [one.name, one.title]));
  offers();
  offer(field("rule"), Object.entries(data.rules), "gain");
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("change", ({ target }) => {
    if (target.name === "query") return go(Number(target.value));
    if (["set", "seed"].includes(target.name)) offers();
    show(["seed", "upper", "lower"].includes(target.name) ? show.place : undefined);
  });
  document.getElementById("before").addEventListener("click", () => step(-1));
  document.getElementById("next").addEventListener("click", () => step(1));
  document.querySelector("#scatter svg").addEventListener("click", ({ target }) => {
    const dot = target.closest("circle");
    if (dot) show(Number(dot.dataset.place));
  });
  addEventListener("hashchange", arrive);
  arrive();
} else {
  form.hidden = document.getElementById("shown").hidden = true;
}
