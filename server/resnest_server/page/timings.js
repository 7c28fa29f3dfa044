// The time of each stage, as a table with bars.

import { make } from "./dom.js";

/** Write the server's stages and the round trip, in milliseconds, into a table. */
export function showTimings(table, timings, roundTrip) {
  const { total, ...stages } = timings;
  const rows = [
    ...Object.entries(stages).map(([name, time]) => [name, time, ""]),
    ...(total === undefined ? [] : [["server", total, "sum"]]),
    ["round trip", roundTrip, "sum"],
  ];
  const most = Math.max(...rows.map(([, time]) => time), 1);
  table.replaceChildren(
    make("caption", { className: "spoken" }, "Milliseconds by stage"),
    make("tbody", {}, ...rows.map(([name, time, kind]) => {
      const bar = make("div", { className: "bar" });
      bar.style.width = `${(100 * time) / most}%`;
      return make(
        "tr",
        { className: kind },
        make("th", { scope: "row" }, name),
        make("td", { "aria-hidden": "true" }, bar),
        make("td", { className: "number" }, time.toFixed(1), make("span", { className: "unit" }, " ms")),
      );
    })),
  );
}
