/**
 * Platforms `os/architecture[/variant]`, as containerd's package platforms normalises and orders them.
 */

import { HutchError, UsageError } from "../errors.ts";

export type Platform = {
  readonly os: string;
  readonly architecture: string;
  readonly variant?: string;
  readonly osFeatures?: readonly string[];
};

const OS_NAMES: Readonly<Record<string, string>> = { macos: "darwin" };
const ARCHITECTURES: Readonly<Record<string, string>> = {
  x86_64: "amd64",
  "x86-64": "amd64",
  aarch64: "arm64",
  i386: "386",
};

/** The canonical form of a platform: lower case, usual names, default variants dropped or filled in. */
export function normalizePlatform(platform: Platform): Platform {
  const lowerOs = platform.os.toLowerCase();
  const os = OS_NAMES[lowerOs] ?? lowerOs;
  const arch = platform.architecture.toLowerCase();
  const given = (platform.variant ?? "").toLowerCase();
  const [architecture, variant] = normalizeArchitecture(ARCHITECTURES[arch] ?? arch, given);
  const features = platform.osFeatures === undefined ? {} : { osFeatures: platform.osFeatures };
  return { os, architecture, ...(variant === "" ? {} : { variant }), ...features };
}

function normalizeArchitecture(architecture: string, variant: string): [string, string] {
  switch (architecture) {
    case "386":
      return ["386", ""];
    case "amd64":
      return ["amd64", variant === "v1" ? "" : variant];
    case "arm64":
      if (["8", "v8", "v8.0", "v8.0.0"].includes(variant)) return ["arm64", ""];
      return ["arm64", variant === "9" || variant === "9.0" || variant === "v9.0" ? "v9" : variant];
    case "armhf":
      return ["arm", "v7"];
    case "armel":
      return ["arm", "v6"];
    case "arm":
      if (variant === "" || variant === "7") return ["arm", "v7"];
      return ["arm", /^[568]$/.test(variant) ? `v${variant}` : variant];
    default:
      return [architecture, variant];
  }
}

/** Architectures that may stand alone (Go's names and the usual others, as containerd's `isKnownArch`). */
const ALONE =
  /^(386|i[36]86|amd64|x86_64|x86-64|arm|armhf|armel|arm64|aarch64|loong64|mips(64)?(le)?|ppc64(le)?|riscv64|s390x|wasm)$/i;

/** Read `os/arch[/variant]`, a known `arch` alone meaning linux. @throws UsageError */
export function parsePlatform(text: string): Platform {
  const parts = text.split("/");
  const word = parts.length === 1 && !ALONE.test(text);
  if (word || parts.length > 3 || parts.some((part) => !/^[A-Za-z0-9_.-]+$/.test(part))) {
    throw new UsageError(`invalid platform ${JSON.stringify(text)}`, {
      hint: "write OS/ARCHITECTURE[/VARIANT], for example linux/arm64",
    });
  }
  const [os = "linux", architecture, variant] = parts.length === 1 ? ["linux", parts[0]] : parts;
  const base = { os, architecture: architecture ?? "" };
  return normalizePlatform(variant === undefined ? base : { ...base, variant });
}

/** `linux/arm/v7`. Twin of {@link parsePlatform}. */
export function formatPlatform(platform: Platform): string {
  const { os, architecture, variant } = platform;
  return [os, architecture, ...(variant === undefined || variant === "" ? [] : [variant])].join("/");
}

/** The platform that we run on, by the words of process.arch. */
export function hostPlatform(arch: string = process.arch): Platform {
  return normalizePlatform({ os: "linux", architecture: arch === "x64" ? "amd64" : arch });
}

/** Platforms that a host (or the user's `--platform`) accepts, best first. */
export function acceptedPlatforms(wanted: Platform, strict = false): Platform[] {
  const base = normalizePlatform(wanted);
  if (strict) return [base];
  const { os, architecture, variant = "" } = base;
  const list = (arch: string, variants: readonly string[]): Platform[] =>
    variants.map((name) => ({ os, architecture: arch, ...(name === "" ? {} : { variant: name }) }));
  const down = (highest: number, lowest: number): string[] =>
    Array.from({ length: Math.max(0, highest - lowest + 1) }, (_, i) => `v${highest - i}`);
  const number = Number(/^v(\d+)/.exec(variant)?.[1] ?? 0);
  switch (architecture) {
    case "amd64":
      return [...list("amd64", [...down(number, 2), ""]), ...list("386", [""])];
    case "arm64":
      return [...list("arm64", [...(variant === "" ? [] : [variant]), ""]), ...list("arm", down(8, 5))];
    case "arm":
      return list("arm", down(number, 5));
    default:
      return [base];
  }
}

/** Same platform after normalising; os.features that nobody promised make it another one. */
function samePlatform(a: Platform, b: Platform): boolean {
  return a.os === b.os && a.architecture === b.architecture && (a.variant ?? "") === (b.variant ?? "");
}

/**
 * Choose from an index: the first entry of the best accepted platform. Entries without a platform, with `unknown`
 * (BuildKit attestations) or with os.features are no candidates. Returns the position, or undefined.
 */
export function choosePlatform(
  entries: readonly (Platform | undefined)[],
  accepted: readonly Platform[],
): number | undefined {
  const normal = entries.map((entry) => (entry === undefined ? undefined : normalizePlatform(entry)));
  for (const platform of accepted) {
    const found = normal.findIndex(
      (entry) => entry !== undefined && (entry.osFeatures ?? []).length === 0 && samePlatform(entry, platform),
    );
    if (found >= 0) return found;
  }
  return undefined;
}

/** Refuse a single manifest whose config names a platform that is not accepted. @throws HutchError */
export function requirePlatform(config: Platform, accepted: readonly Platform[], from: string): void {
  if (config.os === "" && config.architecture === "") return; // configs by hand name none
  const own = normalizePlatform(config);
  if (accepted.some((platform) => samePlatform(platform, own))) return;
  throw new HutchError(`the image is for ${formatPlatform(own)}, not ${formatPlatform(accepted[0] ?? own)}`, {
    from,
    hint: `--platform ${formatPlatform(own)} takes it all the same`,
  });
}
