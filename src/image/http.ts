/**
 * HTTP as a registry's client needs it: redirects by hand (no Authorization to another origin, no way from https down
 * to http), certificates always verified unless the user said otherwise, silence bounded, retries with Retry-After.
 *
 * Bun's fetch reads the proxy variables itself. `decompress: false` because a blob served with a Content-Encoding must
 * be hashed as it is stored; `verbose: false` because BUN_CONFIG_VERBOSE_FETCH would print credentials.
 */

import { RegistryError } from "./registry-error.ts";

export type TlsOptions = {
  readonly insecure: boolean;
  readonly ca: readonly string[];
  readonly cert?: string;
  readonly key?: string;
};

export type SendOptions = {
  readonly method?: "GET" | "HEAD" | "POST";
  readonly headers?: Readonly<Record<string, string>>;
  readonly authorization?: string | undefined;
  readonly body?: string;
  /** What to hold a host to: the leniency for a registry is not for whom it sends us to. */
  readonly tls: (url: URL) => TlsOptions;
  /** Milliseconds until the first byte of an answer. */
  readonly firstByte: number;
  /** Hosts (with port) that may be asked in plain text. */
  readonly plainAllowed: (url: URL) => boolean;
};

const REDIRECTS = new Set([301, 302, 303, 307, 308]);
const REDIRECT_LIMIT = 10;

/** True for addresses of this machine, which never leave it. */
export function isLoopback(hostname: string): boolean {
  const bare = hostname.replace(/^\[|\]$/g, "").toLowerCase();
  return bare === "localhost" || bare.endsWith(".localhost") || bare === "::1" || /^127(?:\.\d{1,3}){3}$/.test(bare);
}

const text = (error: unknown): string => {
  const { code, message } = error as { code?: unknown; message?: unknown };
  // Bun adds advice for whoever calls its fetch.
  const words = (typeof message === "string" ? message : String(error)).replace(/ For more information, pass .*$/, "");
  return typeof code === "string" && !words.includes(code) ? `${code}: ${words}` : words;
};

const NO_TLS = new Set(["EPROTO", "ERR_SSL_WRONG_VERSION_NUMBER", "ECONNREFUSED", "ECONNRESET", "ERR_PROXY_TUNNEL"]);

/** True when a connection failed because the other side does not speak TLS there. */
export function isPlainServer(error: unknown): boolean {
  const { cause } = error as { cause?: unknown };
  const code = (cause as { code?: unknown } | undefined)?.code;
  return typeof code === "string" && NO_TLS.has(code);
}

/** What the resolver or the kernel said of a connection, plainly. */
const FAULTS: Readonly<Record<string, string>> = {
  ENOTFOUND: "no such host (no network?)",
  EAI_AGAIN: "no name server answers (no network?)",
  ECONNREFUSED: "connection refused",
  ENETUNREACH: "no route to it (no network?)",
  EHOSTUNREACH: "no route to it (no network?)",
  EADDRNOTAVAIL: "no address of this machine's to ask it from (no network?)",
  ETIMEDOUT: "no answer",
};

/** The error of a fetch that got no answer. The name that was not found may be a proxy's. */
export function connectionError(url: URL, error: unknown): RegistryError {
  const { code, hostname, syscall } = error as { code?: unknown; hostname?: unknown; syscall?: unknown };
  const plain = typeof code === "string" ? FAULTS[code] : undefined;
  if (plain === undefined) {
    const connection = syscall === "getaddrinfo" ? "unreachable" : "broken";
    return new RegistryError(`${url.host}: ${text(error)}`, { connection, cause: error });
  }
  const elsewhere = typeof hostname === "string" && hostname !== url.hostname && code !== "ECONNREFUSED";
  const where = elsewhere ? `${url.host}: proxy ${hostname}` : url.host;
  return new RegistryError(`${where}: ${plain}`, {
    connection: "unreachable",
    cause: error,
    hint: "an image that is in the store runs without a network: hutch images",
  });
}

async function fetchOnce(url: URL, options: SendOptions, authorization: string | undefined): Promise<Response> {
  const { firstByte, method = "GET", body } = options;
  const tls = options.tls(url);
  const abort = new AbortController();
  const timer = setTimeout(() => abort.abort(), firstByte);
  try {
    return await fetch(url.href, {
      method,
      redirect: "manual",
      decompress: false,
      verbose: false,
      timeout: false,
      signal: abort.signal,
      ...(isLoopback(url.hostname) ? { proxy: false } : {}), // a proxy cannot reach this machine's own registry
      headers: {
        "User-Agent": "hutch",
        "Accept-Encoding": "identity",
        ...options.headers,
        ...(authorization === undefined ? {} : { Authorization: authorization }),
      },
      ...(body === undefined ? {} : { body }),
      tls: {
        rejectUnauthorized: !tls.insecure,
        ...(tls.ca.length === 0 ? {} : { ca: [...tls.ca] }),
        ...(tls.cert === undefined || tls.key === undefined ? {} : { cert: tls.cert, key: tls.key }),
      },
    } as RequestInit);
  } catch (error) {
    if (!abort.signal.aborted) throw connectionError(url, error);
    throw new RegistryError(`${url.host}: no answer within ${firstByte} ms`, {
      connection: "unreachable",
      cause: error,
    });
  } finally {
    clearTimeout(timer);
  }
}

/**
 * Send a request and follow its redirects. Returns any final answer, whatever its status.
 * @throws RegistryError without an answer, or on a redirect that must not be followed
 */
export async function send(start: URL, options: SendOptions): Promise<Response> {
  let url = start;
  let { authorization } = options;
  for (let hops = 0; ; hops++) {
    if (url.protocol === "http:" && !options.plainAllowed(url)) {
      throw new RegistryError(`${url.host}: plain http is not allowed`, {
        hint: `mark it with "insecure = true" in registries.conf`,
      });
    }
    const response = await fetchOnce(url, options, authorization);
    if (!REDIRECTS.has(response.status)) return response;
    const location = response.headers.get("location");
    await response.body?.cancel();
    if (location === null)
      throw new RegistryError(`${url.host}: redirect without a location`, { status: response.status });
    if (hops >= REDIRECT_LIMIT) throw new RegistryError(`${start.host}: more than ${REDIRECT_LIMIT} redirects`);
    const next = URL.canParse(location, url.href) ? new URL(location, url.href) : undefined;
    if (next === undefined || !/^https?:$/.test(next.protocol)) {
      throw new RegistryError(`${url.host}: redirect to ${JSON.stringify(location.slice(0, 100))}`);
    }
    if (url.protocol === "https:" && next.protocol === "http:") {
      throw new RegistryError(`${url.host}: redirect from https to http (${next.host})`);
    }
    if (next.origin !== url.origin) authorization = undefined;
    next.username = "";
    next.password = "";
    url = next;
  }
}

/** Retry-After (RFC 9110 section 10.2.3) in milliseconds, at most a minute; undefined when absent or not readable. */
export function parseRetryAfter(value: string | null, now: number): number | undefined {
  if (value === null) return undefined;
  const trimmed = value.trim();
  const time = /^\d+$/.test(trimmed) ? Number(trimmed) * 1000 : Date.parse(trimmed) - now;
  return Number.isNaN(time) ? undefined : Math.min(Math.max(time, 0), 60_000);
}

export type RetryPolicy = {
  /** Tries again after 408 and 429, after 5xx, and after a failed connection. */
  readonly busy: number;
  readonly server: number;
  readonly transport: number;
  /** First wait in milliseconds, doubled each time; Retry-After goes before. */
  readonly delay: number;
  /** Milliseconds of waiting in all the requests of a pull. */
  readonly total: number;
};

export const RETRY_POLICY: RetryPolicy = { busy: 4, server: 1, transport: 2, delay: 2000, total: 300_000 };

/** Wait before another try, `answer` being why (undefined: there was none); false when that would be too long. */
export type Pause = (ms: number, answer: Response | undefined) => Promise<boolean>;

/** Call `attempt` until its answer is worth keeping or the policy is spent. The last answer or error comes out. */
export async function withRetries(
  attempt: () => Promise<Response>,
  policy: RetryPolicy,
  pause: Pause,
): Promise<Response> {
  const spent = { busy: 0, server: 0, transport: 0 };
  for (let wait = policy.delay; ; wait *= 2) {
    let response: Response | undefined;
    let failure: unknown;
    try {
      response = await attempt();
    } catch (error) {
      if (!(error instanceof RegistryError) || error.connection === undefined) throw error;
      failure = error;
    }
    const status = response?.status ?? 0;
    const kind =
      response === undefined
        ? "transport"
        : status === 408 || status === 429
          ? "busy"
          : status >= 500
            ? "server"
            : undefined;
    const asked = parseRetryAfter(response?.headers.get("retry-after") ?? null, Date.now());
    const own = kind === "transport" ? wait / 10 : wait;
    if (kind === undefined || spent[kind] >= policy[kind] || !(await pause(asked ?? own, response))) {
      if (response === undefined) throw failure;
      return response;
    }
    spent[kind] += 1;
    await response?.body?.cancel();
  }
}

/** The body's chunks; silence for `idle` milliseconds or a broken connection is an error. @throws RegistryError */
export async function* readBody(response: Response, host: string, idle: number): AsyncGenerator<Uint8Array> {
  const reader = response.body?.getReader();
  if (reader === undefined) return;
  try {
    for (;;) {
      const { promise, reject } = Promise.withResolvers<never>();
      const timer = setTimeout(() => reject(new Error(`no data for ${idle} ms`)), idle);
      let next: { done: boolean; value?: Uint8Array | undefined };
      try {
        next = await Promise.race([reader.read(), promise]);
      } catch (error) {
        throw new RegistryError(`${host}: ${text(error)}`, { connection: "broken", cause: error });
      } finally {
        clearTimeout(timer);
      }
      if (next.done) return;
      if (next.value !== undefined) yield next.value;
    }
  } finally {
    await reader.cancel().catch(() => undefined);
  }
}

/** A body that is kept whole, at most `limit` bytes. @throws RegistryError */
export async function readBounded(response: Response, host: string, limit: number, idle: number): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  let length = 0;
  for await (const chunk of readBody(response, host, idle)) {
    length += chunk.byteLength;
    if (length > limit)
      throw new RegistryError(`${host}: answer larger than ${limit} bytes`, { status: response.status });
    parts.push(chunk);
  }
  return new Uint8Array(Buffer.concat(parts));
}
