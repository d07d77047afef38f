"use strict";
(() => {
  const data = JSON.parse(document.getElementById("report-data").textContent);
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const settings = { responsive: true, displaylogo: false, displayModeBar: false };
  const heat = [[0, "rgb(200,200,200)"], [0.5, "rgb(250,150,60)"], [1, "rgb(205,10,25)"]];

  // Text and lines take the page's colours, which follow the room.
  const themed = (layout) => {
    const made = structuredClone(layout);
    made.font = { ...made.font, color: color("--ink") };
    for (const [key, axis] of Object.entries(made)) {
      if (/^[xy]axis\d*$/.test(key)) {
        axis.gridcolor = color("--line");
        axis.linecolor = color("--line");
      }
    }
    return made;
  };
  const drawFigures = () => {
    for (const [id, figure] of Object.entries(data.figures)) {
      Plotly.react(id, figure.data, themed(figure.layout), settings);
    }
  };
  drawFigures();
  dark.addEventListener("change", drawFigures);

  const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const meshes = {};
  const unpacked = (name, optical) => {
    const key = name + optical;
    if (!meshes[key]) {
      const packed = data.meshes[name];
      const places = new Uint16Array(bytes(packed.vertices).buffer);
      const corners = packed.wide ? new Uint32Array(bytes(packed.faces).buffer) : new Uint16Array(bytes(packed.faces).buffer);
      const axes = [0, 1, 2].map((axis) => {
        const values = new Float32Array(places.length / 3);
        for (let i = 0; i < values.length; i++) values[i] = packed.low[axis] + packed.step[axis] * places[3 * i + axis];
        return values;
      });
      const faces = [0, 1, 2].map((corner) => {
        const values = new Int32Array(corners.length / 3);
        for (let i = 0; i < values.length; i++) values[i] = corners[3 * i + corner];
        return values;
      });
      const negative = (values) => values.map((value) => -value);
      // Up is z here: it is y of a canonical mesh, and −y of the camera's optical frame.
      const [x, y, z] = optical ? [axes[0], axes[2], negative(axes[1])] : [axes[0], negative(axes[2]), axes[1]];
      meshes[key] = { x, y, z, i: faces[0], j: faces[1], k: faces[2] };
    }
    return meshes[key];
  };
  // The true proportions, with the longest side as 1, so that thin and tall things stay in the picture.
  const proportions = (traces) => {
    const sides = ["x", "y", "z"].map((axis) => {
      let [low, high] = [Infinity, -Infinity];
      for (const trace of traces) {
        for (const value of trace[axis]) {
          low = Math.min(low, value);
          high = Math.max(high, value);
        }
      }
      return Math.max(high - low, 1e-6);
    });
    const longest = Math.max(...sides);
    return { x: sides[0] / longest, y: sides[1] / longest, z: sides[2] / longest };
  };
  const draw = (id, parts, optical) => {
    const box = document.getElementById(id);
    if (!parts.length) return;
    const traces = parts.map((part) => ({
      type: "mesh3d",
      ...unpacked(part.mesh, optical),
      name: part.name,
      intensity: Float32Array.from(bytes(part.values), (value) => value / 255),
      cmin: 0,
      cmax: 1,
      colorscale: heat,
      showscale: false,
      flatshading: false,
      hovertemplate: "%{intensity:.2f}<extra></extra>",
      lighting: { ambient: optical ? 0.75 : 0.55, diffuse: 0.7, specular: 0.05, roughness: 0.9 },
      lightposition: { x: 500, y: -2000, z: 3000 },
    }));
    const axis = { visible: false, showbackground: false };
    const metres = { title: { text: "m" }, color: color("--soft"), gridcolor: color("--line"), showbackground: false };
    const side = optical ? metres : axis;
    Plotly.react(
      box,
      traces,
      {
        margin: { l: 0, r: 0, t: 0, b: 0 },
        paper_bgcolor: "rgba(0,0,0,0)",
        font: { color: color("--ink") },
        uirevision: id,
        scene: {
          xaxis: side,
          yaxis: side,
          zaxis: side,
          aspectmode: "manual",
          aspectratio: proportions(traces),
          dragmode: "turntable",
          camera: { eye: optical ? { x: 0.4, y: -1.6, z: 0.4 } : { x: 0.45, y: -1.55, z: 0.25 } },
        },
      },
      settings,
    );
  };
  const chooser = document.getElementById("view");
  if (chooser) {
    data.views.forEach((view, number) => chooser.add(new Option(view.name, String(number))));
    const show = () => {
      const view = data.views[Number(chooser.value)];
      const shown = { body: view.body || [], thing: view.thing || [], scene: view.scene || [] };
      // Boxes share the width, so that it is settled which are there before anything is drawn.
      for (const [name, parts] of Object.entries(shown)) {
        document.getElementById(`solid-${name}`).parentElement.hidden = !parts.length;
      }
      for (const [name, parts] of Object.entries(shown)) draw(`solid-${name}`, parts, name === "scene");
    };
    chooser.addEventListener("change", show);
    dark.addEventListener("change", show);
    show();
  }
})();
