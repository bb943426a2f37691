/** A registry's repository as the source of an image (OCI distribution-spec 1.1, pull). */

import { createAuthorizer, type Authorizer } from "./auth.ts";
import { registryBase, registryTransport, type Transport } from "./connection.ts";
import type { Credentials } from "./credentials.ts";
import { type Digest, digestOf, isDigest, splitDigest } from "./digest.ts";
import {
  isLoopback,
  type Pause,
  RETRY_POLICY,
  readBody,
  readBounded,
  type RetryPolicy,
  send,
  type TlsOptions,
  withRetries,
} from "./http.ts";
import { JSON_LIMIT } from "./json.ts";
import { type Descriptor, isForeignLayer, MANIFEST_TYPES } from "./manifest.ts";
import { formatReference, manifestKey, type RegistryReference } from "./reference.ts";
import { describeEndpoint, type Endpoint, type HostCertificates } from "./registries.ts";
import { formatRegistryErrors, RegistryError } from "./registry-error.ts";
import type { BlobStream, FetchedManifest, ImageSource, OnEvent } from "./source.ts";

export type RegistryOptions = {
  readonly endpoints: readonly Endpoint[];
  readonly certificates: (host: string) => HostCertificates;
  readonly credentials: (host: string, path: string) => Promise<Credentials | undefined>;
  readonly onEvent?: OnEvent | undefined;
  /** Milliseconds until the first byte of an answer, and of silence within one. */
  readonly firstByte?: number | undefined;
  /** Instead of it until the registry has answered for the first time, without another try. */
  readonly firstAnswer?: number | undefined;
  readonly idle?: number | undefined;
  readonly retry?: RetryPolicy | undefined;
};

type Connection = { readonly endpoint: Endpoint; readonly base: URL; readonly authorizer: Authorizer };

const ACCEPT = MANIFEST_TYPES.join(", ");

/** A registry's source, and whether there has been any answer: then it is not one that cannot be reached. */
export type RegistrySource = ImageSource & { readonly hasAnswered: () => boolean };

/** Of several endpoints: one that has answered counts before one that broke off, and that before one that is not there. */
function commonConnection(failures: readonly RegistryError[]): RegistryError["connection"] {
  if (failures.some((failure) => failure.connection === undefined)) return undefined;
  return failures.every((failure) => failure.connection === "unreachable") ? "unreachable" : "broken";
}

/** Create a source; nothing is asked before it is used. */
export function createRegistrySource(reference: RegistryReference, options: RegistryOptions): RegistrySource {
  const { endpoints, firstByte = 30_000, firstAnswer, idle = 60_000, retry = RETRY_POLICY } = options;
  const name = formatReference(reference);
  const connections = new Map<Endpoint, Promise<Connection>>();
  const warned = new Set<string>();
  /** The endpoint that gave the manifest is asked first for the rest. */
  let preferred: Endpoint | undefined;
  let answered = false;
  /** Milliseconds between tries so far. */
  let waited = 0;

  const transport = (endpoint: Endpoint): Transport =>
    registryTransport(endpoint, options.certificates, answered ? firstByte : (firstAnswer ?? firstByte));

  async function connect(endpoint: Endpoint): Promise<Connection> {
    const { host, insecure } = endpoint;
    const { base, answered: now } = await registryBase(endpoint, transport(endpoint));
    answered ||= now;
    const authorizer = createAuthorizer({
      host,
      scope: `repository:${endpoint.path}:pull`,
      credentials: await options.credentials(host, endpoint.path),
      transport: transport(endpoint),
      insecure,
    });
    return { endpoint, base, authorizer };
  }

  function connection(endpoint: Endpoint): Promise<Connection> {
    const known = connections.get(endpoint) ?? connect(endpoint);
    connections.set(endpoint, known);
    known.catch(() => connections.delete(endpoint));
    return known;
  }

  /** Waits are told when somebody might wonder; each is counted, so that many requests cannot wait for hours. */
  const pauseFor =
    ({ host }: Endpoint): Pause =>
    async (ms, answer) => {
      if (waited + ms > retry.total) return false;
      waited += ms;
      const asks = answer?.headers.has("retry-after") ? "asks to wait" : "is asked again in";
      const why = answer === undefined ? "" : ` (${answer.status} ${answer.statusText})`;
      if (ms >= 1000) options.onEvent?.({ kind: "pause", text: `${host} ${asks} ${Math.ceil(ms / 1000)} s${why}` });
      await Bun.sleep(ms);
      return true;
    };

  /** One request to one endpoint, with authorization and retries; any final answer. */
  async function ask(
    endpoint: Endpoint,
    path: string,
    method: "GET" | "HEAD",
    headers: Record<string, string>,
  ): Promise<Response> {
    const { base, authorizer } = await connection(endpoint);
    const url = new URL(`v2/${endpoint.path}/${path}`, base);
    const once = (): Promise<Response> =>
      send(url, { ...transport(endpoint), method, headers, authorization: authorizer.header() });
    const isPatient = answered || firstAnswer === undefined;
    let response = await withRetries(once, isPatient ? retry : { ...retry, transport: 0 }, pauseFor(endpoint));
    answered = true;
    // A second refusal with error="invalid_token" is worth one more: the token ran out between the two.
    for (let tries = 0; tries < 2 && response.status === 401; tries++) {
      const isStale = /error="?invalid_token/.test(response.headers.get("www-authenticate") ?? "");
      if (tries > 0 && !isStale) break;
      if (!(await authorizer.answer(response))) break;
      await response.body?.cancel();
      response = await withRetries(once, retry, pauseFor(endpoint));
    }
    showWarnings(response);
    return response;
  }

  function showWarnings(response: Response): void {
    for (const [, text = ""] of (response.headers.get("warning") ?? "").matchAll(/299 - "((?:[^"\\]|\\.)*)"/g)) {
      if (warned.has(text)) continue;
      warned.add(text);
      options.onEvent?.({ kind: "warning", text: `${reference.domain}: ${text.replaceAll(/\p{Cc}/gu, " ")}` });
    }
  }

  async function refuse(response: Response, endpoint: Endpoint, what: string): Promise<never> {
    const body = await readBounded(response, endpoint.host, 1024 * 1024, idle).catch(() => new Uint8Array());
    const detail = formatRegistryErrors(new TextDecoder().decode(body));
    const { status } = response;
    throw new RegistryError(
      `${describeEndpoint(endpoint)}: ${what}: ${status} ${response.statusText}`.trimEnd() + (detail && ` (${detail})`),
      { status, from: name, ...hintFor(status) },
    );
  }

  /** Ask endpoint after endpoint; the last one's failure is the answer, and says who else was asked. */
  async function first<T>(attempt: (endpoint: Endpoint) => Promise<T>): Promise<T> {
    const order =
      preferred === undefined ? endpoints : [preferred, ...endpoints.filter((other) => other !== preferred)];
    const failures: RegistryError[] = [];
    for (const endpoint of order) {
      try {
        const result = await attempt(endpoint);
        preferred = endpoint;
        return result;
      } catch (error) {
        if (!(error instanceof RegistryError)) throw error;
        failures.push(error);
      }
    }
    const last = failures.at(-1);
    if (last === undefined) throw new RegistryError(`${name}: no endpoint`);
    throw new RegistryError(failures.map(({ message }) => message).join("; "), {
      cause: last,
      ...(last.status === undefined ? {} : { status: last.status }),
      connection: commonConnection(failures),
      ...(last.hint === undefined ? {} : { hint: last.hint }),
      from: name,
    });
  }

  async function getManifest(key: string): Promise<FetchedManifest> {
    return first(async (endpoint) => {
      const response = await ask(endpoint, `manifests/${key}`, "GET", { Accept: ACCEPT });
      if (response.status !== 200) return refuse(response, endpoint, `manifest ${key}`);
      const bytes = await readBounded(response, endpoint.host, JSON_LIMIT, idle);
      const stated = response.headers.get("docker-content-digest");
      const algorithm = isDigest(key) ? splitDigest(key).algorithm : "sha256";
      const digest = digestOf(bytes, algorithm);
      const wanted = isDigest(key) ? key : stated !== null && isDigest(stated) ? stated : digest;
      const actual = digestOf(bytes, splitDigest(wanted).algorithm);
      if (wanted !== actual) {
        throw new RegistryError(`${describeEndpoint(endpoint)}: manifest ${key} has digest ${actual}, not ${wanted}`);
      }
      return { bytes, digest, mediaType: response.headers.get("content-type") ?? undefined };
    });
  }

  async function head(): Promise<Digest | undefined> {
    return first(async (endpoint) => {
      const key = manifestKey(reference);
      const response = await ask(endpoint, `manifests/${key}`, "HEAD", { Accept: ACCEPT });
      const digest = response.headers.get("docker-content-digest");
      await response.body?.cancel();
      if (response.status === 405) return undefined;
      if (response.status !== 200) return refuse(response, endpoint, `manifest ${key}`);
      return digest !== null && isDigest(digest) ? digest : undefined;
    });
  }

  async function blob(descriptor: Descriptor, offset: number): Promise<BlobStream> {
    try {
      return await first((endpoint) => blobFrom(endpoint, descriptor, offset));
    } catch (error) {
      if (!isForeignLayer(descriptor.mediaType)) throw error;
      return foreignBlob(descriptor, error);
    }
  }

  async function blobFrom(endpoint: Endpoint, { digest, size }: Descriptor, offset: number): Promise<BlobStream> {
    const range: Record<string, string> = offset > 0 ? { Range: `bytes=${offset}-` } : {};
    const response = await ask(endpoint, `blobs/${digest}`, "GET", range);
    if (offset > 0 && response.status === 206) {
      const [, start, total] = /^bytes (\d+)-\d+\/(\d+|\*)$/.exec(response.headers.get("content-range") ?? "") ?? [];
      if (Number(start) === offset && (total === "*" || Number(total) === size)) {
        return { offset, stream: readBody(response, endpoint.host, idle) };
      }
      await response.body?.cancel();
      return blobFrom(endpoint, { digest, size, mediaType: "" }, 0);
    }
    if (offset > 0 && response.status === 416) {
      await response.body?.cancel();
      return blobFrom(endpoint, { digest, size, mediaType: "" }, 0);
    }
    if (response.status !== 200) return refuse(response, endpoint, `blob ${digest}`);
    return { offset: 0, stream: readBody(response, endpoint.host, idle) };
  }

  /** A layer that the registry may not hold, from where its descriptor says; never with our authorization. */
  async function foreignBlob(descriptor: Descriptor, failure: unknown): Promise<BlobStream> {
    for (const text of descriptor.urls ?? []) {
      const url = URL.canParse(text) ? new URL(text) : undefined;
      if (url === undefined || !/^https?:$/.test(url.protocol)) continue;
      const tls = ({ host }: URL): TlsOptions => ({ insecure: false, ...options.certificates(host) });
      const plainAllowed = ({ hostname }: URL): boolean => isLoopback(hostname);
      const response = await send(url, { tls, firstByte, plainAllowed }).catch(() => undefined);
      if (response?.status === 200) return { offset: 0, stream: readBody(response, url.host, idle) };
      await response?.body?.cancel();
    }
    throw failure;
  }

  return {
    name,
    hasAnswered: () => answered,
    head,
    root: () => getManifest(manifestKey(reference)),
    manifest: async ({ digest }) => (await getManifest(digest)).bytes,
    blob,
  };
}

function hintFor(status: number): { hint?: string } {
  if (status === 401 || status === 403)
    return { hint: "the image does not exist, or its registry wants credentials: hutch login" };
  if (status === 404) return { hint: "check the name and the tag" };
  return status === 429 ? { hint: "the registry limits pulls: log in or wait" } : {};
}
