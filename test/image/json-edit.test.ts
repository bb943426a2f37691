/** Members of JSON texts, changed without touching the rest. */

import { expect, test } from "bun:test";
import fc from "fast-check";
import { removeMembers, setMember } from "../../src/image/json-edit.ts";

const json = fc.dictionary(fc.string(), fc.jsonValue());
test("a member that is set or removed is all that changes of a JSON text", () => {
  fc.assert(
    fc.property(
      json,
      fc.dictionary(fc.string(), json),
      fc.string(),
      fc.constantFrom("", " ", "\t", 4),
      (top, inner, key, space) => {
        const before = { ...top, auths: inner };
        const text = JSON.stringify(before, undefined, space);
        const set = setMember(text, ["auths"], key, { auth: "x" });
        expect(JSON.parse(set)).toEqual(
          JSON.parse(JSON.stringify({ ...top, auths: { ...inner, [key]: { auth: "x" } } })),
        );
        const gone = removeMembers(set, ["auths"], (other) => other === key);
        const { [key]: _, ...rest } = inner;
        expect(JSON.parse(gone)).toEqual(JSON.parse(JSON.stringify({ ...top, auths: rest })));
        if (!Object.hasOwn(inner, key) && Object.keys(inner).length > 0) expect(gone).toBe(text);
        expect(JSON.parse(removeMembers(text, ["auths"], () => true))).toEqual(
          JSON.parse(JSON.stringify({ ...top, auths: {} })),
        );
      },
    ),
  );
});
