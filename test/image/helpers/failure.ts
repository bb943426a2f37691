/** The error that a promise ends with; a promise that does not fail is the failure. */
export async function failure(
  promise: Promise<unknown>,
): Promise<Error & { readonly status?: number; readonly connection?: string; readonly hint?: string }> {
  try {
    await promise;
  } catch (error) {
    if (error instanceof Error) return error;
    throw error;
  }
  throw new Error("it should have failed");
}
