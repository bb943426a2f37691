/** What commands show of images: rows of tables and shapes of JSON, as data. Pure. */

import { splitDigest } from "./digest.ts";
import type { StoredImage } from "./image-index.ts";
import type { OpenImage } from "./lookup.ts";
import { formatPlatform } from "./platform.ts";
import { familiarName, familiarRepository, parseReference, sourcePlace } from "./reference.ts";
import type { PullEvent } from "./source.ts";

/** `12 B`, `3.4 MB`: powers of 1000, at most three figures, as Docker writes them. */
export function formatBytes(bytes: number): string {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let value = bytes;
  let unit = 0;
  while (value >= 999.5 && unit < units.length - 1) [value, unit] = [value / 1000, unit + 1];
  const text = unit === 0 || value >= 99.95 ? Math.round(value).toString() : value.toPrecision(3).replace(/\.?0+$/, "");
  return `${text} ${units[unit]}`;
}

/** `5 minutes ago` of a time in ISO 8601; "" when there is none. */
export function formatAge(iso: string | undefined, now: number): string {
  const time = Date.parse(iso ?? "");
  if (Number.isNaN(time)) return "";
  const seconds = Math.max(0, Math.round((now - time) / 1000));
  const steps: readonly [number, string][] = [
    [31_536_000, "year"],
    [2_592_000, "month"],
    [604_800, "week"],
    [86_400, "day"],
    [3600, "hour"],
    [60, "minute"],
  ];
  const [size, word] = steps.find(([length]) => seconds >= length) ?? [1, "second"];
  const count = Math.floor(seconds / size);
  return `${count} ${word}${count === 1 ? "" : "s"} ago`;
}

/** Twelve digits of an image's id, which is its config's digest. */
export function shortId(image: OpenImage): string {
  return splitDigest(image.manifest.config.digest).hex.slice(0, 12);
}

/** Bytes that the image's blobs take. */
export function imageSize(image: OpenImage): number {
  return image.manifest.layers.reduce(
    (sum, { size }) => sum + size,
    image.manifest.config.size + image.record.manifest.size,
  );
}

const placeOf = ({ source }: StoredImage): string | undefined =>
  source === undefined ? undefined : sourcePlace(source);

/** Repository and tag (or digest) to show; `<none>` without a name. */
function nameParts({ record }: OpenImage): { repository: string; tag: string } {
  if (record.name === undefined) return { repository: placeOf(record) ?? "<none>", tag: "<none>" };
  const reference = parseReference(record.name);
  if (reference.kind !== "registry") return { repository: record.name, tag: "<none>" };
  return { repository: familiarRepository(reference), tag: reference.digest ?? reference.tag ?? "latest" };
}

export const IMAGE_COLUMNS = ["REPOSITORY", "TAG", "IMAGE ID", "PLATFORM", "CREATED", "SIZE"] as const;

/** Rows of `hutch images`, newest first. Sizes are those of the blobs. */
export function imageRows(images: readonly OpenImage[], now: number): string[][] {
  return images.toReversed().map((image) => {
    const { repository, tag } = nameParts(image);
    const created = formatAge(image.config.created, now);
    return [
      repository,
      tag,
      shortId(image),
      formatPlatform(image.config.platform),
      created,
      formatBytes(imageSize(image)),
    ];
  });
}

/** An entry of `hutch images --format json`. */
export function imageJson(image: OpenImage): object {
  const { record, manifest, config } = image;
  return {
    name: record.name ?? null,
    source: placeOf(record) ?? null,
    id: manifest.config.digest,
    digest: record.manifest.digest,
    platform: formatPlatform(config.platform),
    created: config.created ?? null,
    stored: record.stored,
    size: imageSize(image),
  };
}

/** `hutch inspect`: the image's names, contents and config, in the words of image-spec. */
export function inspectJson(image: OpenImage): object {
  const { manifest, config, chain, record } = image;
  return {
    ...imageJson(image),
    familiar: record.name === undefined ? null : familiarName(parseReference(record.name)),
    sourceDigest: record.sourceDigest,
    author: config.author ?? null,
    config: config.config,
    layers: manifest.layers.map(({ digest, size, mediaType }, i) => ({
      digest,
      size,
      mediaType,
      diffId: config.diffIds[i],
      chainId: chain[i],
    })),
    history: config.history,
  };
}

/** One line of progress for each layer, and what became of it. */
export type LayerProgress = {
  readonly id: string;
  readonly state: "waiting" | "downloading" | "downloaded" | "exists" | "unpacking" | "done";
  readonly done: number;
  readonly size: number;
};

export type Progress = ReadonlyMap<string, LayerProgress>;

/** Fold an event into the progress of a pull. Layers keep the order in which they were first heard of. */
export function foldProgress(progress: Progress, event: PullEvent): Progress {
  const put = (digest: string, change: Partial<LayerProgress>): Progress => {
    const id = digest.slice(digest.indexOf(":") + 1, digest.indexOf(":") + 13);
    const before = progress.get(digest) ?? { id, state: "waiting", done: 0, size: 0 };
    return new Map([...progress, [digest, { ...before, ...change }]]);
  };
  switch (event.kind) {
    case "layer":
      return put(event.digest, { size: event.size, state: event.state === "exists" ? "exists" : "downloading" });
    case "bytes":
      return put(event.digest, { state: "downloading", done: event.done, size: event.size });
    case "downloaded":
      return put(event.digest, { state: "downloaded", done: event.size, size: event.size });
    case "unpacking":
      return put(event.digest, { state: "unpacking", done: event.bytes });
    case "unpacked":
      return put(event.digest, { state: "done", done: event.bytes });
    default:
      return progress;
  }
}

/** The line of a layer: `3f4ca61aafcd  12.3 MB / 45 MB  8.1 MB/s`. `rate` in bytes a second. */
export function progressLine(layer: LayerProgress, rate: number): string {
  const { id, state, done, size } = layer;
  switch (state) {
    case "downloading":
      return `${id}  ${formatBytes(done)} / ${formatBytes(size)}  ${formatBytes(rate)}/s`;
    case "unpacking":
      return `${id}  unpacking ${formatBytes(done)}`;
    case "exists":
      return `${id}  already there`;
    default:
      return `${id}  ${state}`;
  }
}
