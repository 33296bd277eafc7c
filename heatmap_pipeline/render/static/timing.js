// How long drawing took, as the browser's own measures, which developer tools show and benchmarks read.

/**
 * Once the next frame is drawn, a measure up to then; of each name there is the newest one only.
 * @param {"heatmap-first-paint" | "heatmap-first-cells" | "heatmap-drawn"} name
 * @param {number} start milliseconds since navigation began
 */
export function measureFrame(name, start) {
  requestAnimationFrame(() =>
    setTimeout(() => {
      performance.clearMeasures(name);
      performance.measure(name, { start });
    }),
  );
}
