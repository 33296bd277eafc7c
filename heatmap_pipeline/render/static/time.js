// Spans of time, milliseconds.

export const MINUTE = 60000;
const HOUR = 60 * MINUTE;
export const DAY = 24 * HOUR;
export const RANGES = {
  "12h": 12 * HOUR,
  "24h": DAY,
  "3d": 3 * DAY,
  "7d": 7 * DAY,
  "30d": 30 * DAY,
  "90d": 90 * DAY,
  "1y": 365 * DAY,
};
