/**
 * The entry of the executable: nothing but starting the command line and passing its exit code on. All of it is
 * imported late: static imports of the entry itself cost a tenth of a start (measured: 4.1 of bwrap's time, 3.7 so).
 */

const { main } = await import("./cli/main.ts");
process.exitCode = await main();
