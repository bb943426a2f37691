import { expect, test } from "bun:test";
import fc from "fast-check";
import { familiarName, formatReference, parseReference, parseRegistryName } from "../../src/image/reference.ts";

const hex = "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff";
const digest = `sha256:${hex}`;

/** Input, full name, familiar name. After distribution's reference_test.go and normalize_test.go. */
const good: readonly (readonly [string, string, string])[] = [
  ["alpine", "docker.io/library/alpine:latest", "alpine:latest"],
  ["alpine:3.20", "docker.io/library/alpine:3.20", "alpine:3.20"],
  ["library/alpine", "docker.io/library/alpine:latest", "alpine:latest"],
  ["docker.io/alpine", "docker.io/library/alpine:latest", "alpine:latest"],
  ["index.docker.io/library/alpine", "docker.io/library/alpine:latest", "alpine:latest"],
  ["index.docker.io/alpine", "docker.io/library/alpine:latest", "alpine:latest"],
  ["docker/docker", "docker.io/docker/docker:latest", "docker/docker:latest"],
  ["docker.io/library/a/b", "docker.io/library/a/b:latest", "library/a/b:latest"],
  ["localhost/test", "localhost/test:latest", "localhost/test:latest"],
  ["localhost:5000/x", "localhost:5000/x:latest", "localhost:5000/x:latest"],
  ["127.0.0.1:5000/docker/docker", "127.0.0.1:5000/docker/docker:latest", "127.0.0.1:5000/docker/docker:latest"],
  ["[::1]:5000/x", "[::1]:5000/x:latest", "[::1]:5000/x:latest"],
  ["[2001:db8::1]/x:t", "[2001:db8::1]/x:t", "[2001:db8::1]/x:t"],
  ["test.com:8080/Repo".toLowerCase(), "test.com:8080/repo:latest", "test.com:8080/repo:latest"],
  ["Registry/x", "Registry/x:latest", "Registry/x:latest"],
  ["foo_bar.com:8080", "docker.io/library/foo_bar.com:8080", "foo_bar.com:8080"],
  ["foo/foo_bar.com:8080", "docker.io/foo/foo_bar.com:8080", "foo/foo_bar.com:8080"],
  ["xn--n3h.com/myimage:xn--n3h.com", "xn--n3h.com/myimage:xn--n3h.com", "xn--n3h.com/myimage:xn--n3h.com"],
  ["a__b/c---d/e.f_g", "docker.io/a__b/c---d/e.f_g:latest", "a__b/c---d/e.f_g:latest"],
  [`test.com/repo@${digest}`, `test.com/repo@${digest}`, `test.com/repo@${digest}`],
  [`test:5000/repo:tag@${digest}`, `test:5000/repo@${digest}`, `test:5000/repo@${digest}`],
  [`busybox@sha512:${hex}${hex}`, `docker.io/library/busybox@sha512:${hex}${hex}`, `busybox@sha512:${hex}${hex}`],
  [`${"a/".repeat(127)}a:tag-v1.0`, `docker.io/${"a/".repeat(127)}a:tag-v1.0`, `${"a/".repeat(127)}a:tag-v1.0`],
  ["oci:dir", "oci:dir", "oci:dir"],
  ["oci:/a/b:ref:1", "oci:/a/b:ref:1", "oci:/a/b:ref:1"],
  ["oci-archive:x.tar:v1", "oci-archive:x.tar:v1", "oci-archive:x.tar:v1"],
  ["docker-archive:x.tar", "docker-archive:x.tar", "docker-archive:x.tar"],
];

test.each(good)("%s", (text, full, familiar) => {
  const reference = parseReference(text);
  expect(formatReference(reference)).toBe(full);
  expect(familiarName(reference)).toBe(familiar);
  expect(formatReference(parseReference(full))).toBe(full);
  expect(formatReference(parseReference(familiar))).toBe(full);
});

const bad: readonly (readonly [string, RegExp])[] = [
  ["", /empty/],
  [hex, /64 hexadecimal/],
  [":tag", /not of the form/],
  ["Uppercase:tag", /must be lower case/],
  ["test:5000/Uppercase/lowercase:tag", /must be lower case/],
  ["repo@sha256:ffff", /not of the form/],
  [`repo@sha256:${hex.slice(0, 34)}`, /invalid digest length/],
  [`repo@unsupported:${hex}`, /unsupported digest algorithm/],
  [`repo@sha256:${hex.toUpperCase()}`, /not lower case/],
  ["lowercase:Upper case", /not of the form/],
  [`${"a/".repeat(128)}a:tag`, /longer than 255/],
  ["aa/asdf$$^/aa", /not of the form/],
  ["-repo", /not of the form/],
  ["repo-", /not of the form/],
  ["a//b", /not of the form/],
  ["a/../b", /not of the form/],
  ["a:b:c", /not of the form/],
  ["docker.io/", /not of the form/],
  ["https://docker.io/x", /not of the form/],
  ["[::1/x", /not of the form/],
  ["x:", /not of the form/],
  [`x:${"t".repeat(129)}`, /not of the form/],
  ["x\0", /not of the form/],
  ["é", /not of the form/],
  ["oci:", /no path/],
  ["x".repeat(2000), /longer than 1024/],
];

test.each(bad)("refuses %s", (text, message) => {
  expect(() => parseReference(text)).toThrow(message);
});

test("what parses is printed and parsed again the same; nothing but UsageError is thrown", () => {
  const part = fc.stringMatching(/^[a-z0-9]{1,5}([._-][a-z0-9]{1,3})?$/);
  fc.assert(
    fc.property(
      fc.array(part, { minLength: 1, maxLength: 4 }),
      fc.option(fc.stringMatching(/^[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}$/)),
      (parts, tag) => {
        const text = parts.join("/") + (tag === null ? "" : `:${tag}`);
        const reference = parseReference(text);
        expect(parseReference(formatReference(reference))).toEqual(reference);
        expect(parseReference(familiarName(reference))).toEqual(reference);
      },
    ),
  );
  fc.assert(
    fc.property(fc.string(), (text) => {
      try {
        formatReference(parseReference(text));
      } catch (error) {
        expect((error as Error).name).toBe("UsageError");
      }
    }),
  );
});

test.each([
  ["quay.io", "quay.io", ""],
  ["docker.io", "docker.io", ""],
  ["https://index.docker.io/v1/", "docker.io", ""],
  ["registry-1.docker.io", "docker.io", ""],
  ["localhost", "localhost", ""],
  ["localhost:5000/", "localhost:5000", ""],
  ["http://[::1]:5000/v2/", "[::1]:5000", ""],
  ["quay.io/ns/repo", "quay.io", "ns/repo"],
] as const)("%s is a registry", (text, domain, path) => {
  expect(parseRegistryName(text)).toEqual({ domain, path });
});

test.each([
  "",
  "alpine",
  "-",
  "a..b",
  "quay.io/Upper",
  "x.y:99999",
  "x.y:port",
  "ftp://x.y",
  "x.y/a:1",
  "x.y z",
  "\u0000.x",
])("%j is none", (text) => {
  expect(() => parseRegistryName(text)).toThrow("invalid registry");
});

test("a URL with a password is refused and not repeated", () => {
  expect(() => parseRegistryName("https://bob:hunter2@x.test/")).toThrow(/^invalid registry: /);
});
