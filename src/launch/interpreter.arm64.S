// The launcher's interpreter, aarch64. The records and the first cells are described in interpreter.x64.S.
.equ RECORDS, 0x410300
.equ CELLS, 0x800000

.macro ARGUMENT register, index
	ldrsw	\register, [x19, #(8 + 4*\index)]
	tbz	w20, #\index, 1f
	ldr	\register, [\register]
1:
.endm

.globl _start
_start:
	movz	x21, #(CELLS >> 16), lsl #16
	mov	x0, sp
	str	x0, [x21, #16]
	movz	w19, #(RECORDS & 0xffff)
	movk	w19, #(RECORDS >> 16), lsl #16
loop:
	ldr	w20, [x19, #4]
	ARGUMENT x0, 0
	ARGUMENT x1, 1
	ARGUMENT x2, 2
	ARGUMENT x3, 3
	ARGUMENT x4, 4
	ARGUMENT x5, 5
	ldrsw	x8, [x19]
	tbnz	w8, #31, pseudo
	svc	#0
	ldr	w9, [x19, #32]
	str	x0, [x9]
	cmn	x0, #4095
	b.hs	error
branch:
	cbz	x0, zero
	ldr	w19, [x19, #36]
	b	loop
error:
	str	x19, [x21]
	str	x0, [x21, #8]
	ldr	w19, [x19, #40]
	b	loop
zero:
	ldr	w19, [x19, #44]
	b	loop
pseudo:
	cmn	w8, #1
	b.eq	subtract
	cmn	w8, #2
	b.eq	conjoin
	ldr	x0, [x0, x1]
	b	result
subtract:
	sub	x0, x0, x1
	b	result
conjoin:
	and	x0, x0, x1
result:
	ldr	w9, [x19, #32]
	str	x0, [x9]
	b	branch
