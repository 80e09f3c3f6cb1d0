/**
 * Clips as Python's `clip_bytes` sends them: 4 bytes with the length of a head, little end first, the head as JSON, and
 * the pixels of all rows, a byte a channel.
 */

/**
 * @typedef {object} Row clips of one kind
 * @property {string} label
 * @property {string} hint
 * @property {number} count of clips
 * @property {number} frames of the clip that the pictures were taken from
 * @property {[number, number, number, number]} shape of a clip: pictures, height, width, channels
 * @property {number} offset of its first pixel
 * @property {number[]} places frame of each picture
 * @property {string[]} captions
 *
 * @typedef {{layout: "film" | "strip", alt: string, rows: Row[], pixels: Uint8Array}} Sheet
 */

/**
 * @param {Uint8Array | ArrayBuffer} data
 * @returns {Sheet}
 */
export const readSheet = (data) => {
  const bytes = data instanceof Uint8Array ? data : new Uint8Array(data);
  const size = new DataView(bytes.buffer, bytes.byteOffset, 4).getUint32(0, true);
  const head = JSON.parse(new TextDecoder().decode(bytes.subarray(4, 4 + size)));
  return { ...head, pixels: bytes.subarray(4 + size) };
};

/**
 * The colours of a picture, four bytes a pixel, as a canvas takes them. One channel is grey; of two, the second is green
 * and blue; of more than three, the first three count.
 * @param {Uint8Array} pixels of the sheet
 * @param {Pick<Row, "shape" | "offset">} row
 * @param {number} clip
 * @param {number} picture
 * @returns {Uint8ClampedArray<ArrayBuffer>}
 */
export const rgbaOf = (pixels, { shape, offset }, clip, picture) => {
  const [pictures, height, width, channels] = shape, area = height * width, last = channels - 1;
  const rgba = new Uint8ClampedArray(4 * area);
  let from = offset + (clip * pictures + picture) * area * channels;
  for (let to = 0; to < rgba.length; to += 4, from += channels) {
    rgba[to] = pixels[from];
    rgba[to + 1] = pixels[from + Math.min(1, last)];
    rgba[to + 2] = pixels[from + Math.min(2, last)];
    rgba[to + 3] = 255;
  }
  return rgba;
};
