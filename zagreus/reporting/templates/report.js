// A click on a cell opens what stands behind it; from there one walks, artifact by artifact, to the bytes at the beginning.
(() => {
  "use strict";
  const evidence = JSON.parse(document.getElementById("evidence").textContent);
  const dialog = document.getElementById("behind");
  const title = dialog.querySelector("h2"), body = dialog.querySelector(".body"), back = dialog.querySelector(".back");
  const trail = [];

  const element = (name, text, look) => {
    const made = document.createElement(name);
    if (text !== undefined) made.textContent = text;
    if (look) made.className = look;
    return made;
  };
  const number = (value) => typeof value !== "number" || Number.isInteger(value) ? String(value) : value.toPrecision(5).replace("-", "\u2212");
  const facts = (pairs) => {
    const list = element("dl");
    for (const [name, value] of pairs) {
      const text = typeof value === "object" ? Object.entries(value).map(([key, share]) => `${key}: ${number(share)}`).join(", ") : number(value);
      list.append(element("dt", name), element("dd", text, /^[0-9a-f]{40,}$/.test(text) ? "hash" : ""));
    }
    return list;
  };
  const files = (heading, rows) => {
    if (!rows.length) return [];
    const table = element("table");
    for (const [name, bytes, sha256] of rows) {
      const row = element("tr");
      row.append(element("td", name), element("td", bytes.toLocaleString("en").replaceAll(",", "\u2009"), "num"), element("td", sha256, "hash"));
      table.append(row);
    }
    return [element("h3", heading), table];
  };
  const step = (artifact) => {
    const made = element("button", undefined, "step");
    made.type = "button";
    made.append(element("span", artifact.kind, "kind"), ` ${artifact.name}`);
    return made;
  };
  const walk = (numbers, more) => {
    const list = element("div", undefined, "steps");
    for (const each of numbers) {
      const button = step(evidence.artifacts[each]);
      button.addEventListener("click", () => { trail.push(["artifact", each]); show(); });
      list.append(button);
    }
    if (more) list.append(element("p", `${more} more of the same sources; the RO-Crate has them all.`, "quiet"));
    return list;
  };
  const show = () => {
    const [what, which] = trail[trail.length - 1];
    body.replaceChildren();
    back.hidden = trail.length < 2;
    if (what === "score") {
      const score = evidence.scores[which];
      title.textContent = `${score.task}, ${score.metric}: ${score.model} ${score.checkpoint}`;
      body.append(facts(Object.entries(score.beside).map(([name, value]) => [name.replaceAll("_", " "), value])));
      body.append(element("h3", "Comes from"), walk([score.artifact], 0));
    } else if (what === "rule") {
      title.textContent = `rule ${which}`;
      const made = [...evidence.artifacts.keys()].filter((each) => evidence.artifacts[each].rule === which);
      body.append(element("h3", "What its jobs made"), walk(made, evidence.leftOut[which]));
    } else {
      const artifact = evidence.artifacts[which];
      title.textContent = `${artifact.kind} ${artifact.name}`;
      const known = [["made by", artifact.rule], ["in", artifact.software], ["seconds", artifact.seconds], ["sha256 of the manifest", artifact.manifest]];
      body.append(facts(known.filter(([, value]) => value !== null && value !== undefined)));
      body.append(...files("Its files", artifact.files), ...files("Made from these files", artifact.from));
      if (artifact.parents.length) body.append(element("h3", "Made from"), walk(artifact.parents, artifact.more));
      else body.append(element("p", "Here the walk ends: the files above are what was downloaded.", "quiet"));
    }
    body.scrollTop = 0;
    title.focus();
  };
  document.addEventListener("click", (event) => {
    const cell = event.target.closest("[data-score], [data-artifact], [data-rule]");
    if (!cell) return;
    const { score, artifact, rule } = cell.dataset;
    trail.length = 0;
    trail.push(rule ? ["rule", rule] : score ? ["score", Number(score)] : ["artifact", Number(artifact)]);
    show();
    if (!dialog.open) dialog.showModal();
  });
  back.addEventListener("click", () => { trail.pop(); show(); });
  dialog.querySelector(".close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  document.documentElement.classList.add("live");
})();
