/** The Natural Earth projection (Savric, Patterson, Petrovic, Hurni 2011), cropped to where people live. */

export const WIDTH = 1000;
export const HEIGHT = 480;
const SCALE = 181;
const TOP = 78; // degrees north at the upper edge

/** @param {number} longitude @param {number} latitude @returns {[number, number]} */
const raw = (longitude, latitude) => {
  const phi = (latitude * Math.PI) / 180;
  const p2 = phi * phi, p4 = p2 * p2;
  return [
    ((longitude * Math.PI) / 180) *
      (0.8707 - 0.131979 * p2 + p4 * (-0.013791 + p4 * (0.003971 * p2 - 0.001529 * p4))),
    phi * (1.007226 + p2 * (0.015085 + p4 * (-0.044475 + 0.028874 * p2 - 0.005916 * p4))),
  ];
};
const top = raw(0, TOP)[1];

/** Where a place stands on the map, in its own units.
 * @param {number} longitude @param {number} latitude @returns {[number, number]} */
export const project = (longitude, latitude) => {
  const [x, y] = raw(longitude, latitude);
  return [WIDTH / 2 + x * SCALE, (top - y) * SCALE];
};
