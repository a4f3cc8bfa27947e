# Draws the table of benches/growth.sh as SVG: seconds above, memory below; by size on the left, by files on the
# right; both axes by orders of magnitude. It follows the reader's light or dark mode.

BEGIN {
    FS = "\t"
    panel_width = 330; panel_height = 210; left = 74; top = 100; gap_x = 92; gap_y = 76
    split("size files", kinds, " "); split("seconds memory", rows, " ")
    names["size"] = "size of the instance"; names["files"] = "small files in the instance"
    names["seconds"] = "seconds"; names["memory"] = "most memory, MiB"
}

/^#/ { made = substr($0, 3); next }

!columns { columns = NF; next }

{
    kind = $1; amount = $2; does = $3; program = $4; threads = $5
    # What took less than can be told.
    value["seconds"] = $6 > 0.01 ? $6 : 0.01; value["memory"] = $7
    # More threads than the machine has cores: of use for the memory alone.
    if (program == "abssctl" && !(kind in first)) first[kind] = threads
    usual = program != "abssctl" || threads == first[kind]
    if (!usual) many = threads
    widen(kind, amount)
    for (r = 1; r <= 2; r++) {
        row = rows[r]
        if (usual || row == "memory") {
            widen(row, value[row])
            key = kind SUBSEP row SUBSEP program SUBSEP does SUBSEP (usual ? "line" : "alone")
            at = ++points[key]
            x[key, at] = amount; y[key, at] = value[row]
        }
    }
}

function widen(axis, number) {
    if (!(axis in low) || number < low[axis]) low[axis] = number
    if (!(axis in high) || number > high[axis]) high[axis] = number
}

# The largest of the numbers that an axis may end with that is not above `number`; the smallest not below it.
function floor_of(axis, number,    mark) { mark = 1e-3; while (after(axis, mark) <= number * 1.000001) mark = after(axis, mark); return mark }
function ceiling_of(axis, number,    mark) { mark = 1e-3; while (mark < number * 0.999999) mark = after(axis, mark); return mark }

# Memory doubles; all else goes 1, 2, 5, 10.
function after(axis, mark,    digit) {
    if (axis == "memory") return mark < 1 ? 1 : 2 * mark
    digit = substr(sprintf("%.0e", mark), 1, 1)
    return mark * (digit == 2 ? 2.5 : 2)
}

function part(axis, number) { return log(number / low[axis]) / log(high[axis] / low[axis]) }

function number_text(axis, number) {
    if (axis == "size") return number >= 1000 ? number / 1000 " GB" : number " MB"
    if (axis == "files" && number >= 1000) return sprintf("%d,%03d", number / 1000, number % 1000)
    return number ""
}

function text(at_x, at_y, anchor, class, words) {
    gsub(/&/, "\\&amp;", words); gsub(/</, "\\&lt;", words)
    printf "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\" class=\"%s\">%s</text>\n", at_x, at_y, anchor, class, words
}

function line(x1, y1, x2, y2, class) {
    printf "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" class=\"%s\"/>\n", x1, y1, x2, y2, class
}

# A circle for a backup, a square for a restore; `alone`: only its edge.
function point(at_x, at_y, program, does, alone,    class) {
    class = program (alone ? " hollow" : " full")
    if (does == "create") printf "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"4\" class=\"%s\"/>\n", at_x, at_y, class
    else printf "<rect x=\"%.1f\" y=\"%.1f\" width=\"7\" height=\"7\" class=\"%s\"/>\n", at_x - 3.5, at_y - 3.5, class
}

function legend(at_x, at_y, program, does, alone, words) {
    if (!alone) line(at_x, at_y, at_x + 34, at_y, program " " does)
    point(at_x + 17, at_y, program, does, alone)
    text(at_x + 42, at_y + 4, "start", "words", words)
}

function axes(kind, row, from_x, from_y,    mark, n, at_x, at_y) {
    for (mark = low[row]; mark <= high[row] * 1.000001; mark = after(row, mark)) {
        at_y = from_y + panel_height * (1 - part(row, mark))
        line(from_x, at_y, from_x + panel_width, at_y, "grid")
        text(from_x - 8, at_y + 4, "end", "words", number_text(row, mark))
    }
    # The amounts that were measured, as far apart as they are.
    for (n = 1; n <= amounts[kind]; n++) {
        at_x = from_x + panel_width * part(kind, order[kind, n])
        line(at_x, from_y, at_x, from_y + panel_height, "grid")
        text(at_x, from_y + panel_height + 18, "middle", "words", number_text(kind, order[kind, n]))
    }
    line(from_x, from_y, from_x, from_y + panel_height, "axis")
    line(from_x, from_y + panel_height, from_x + panel_width, from_y + panel_height, "axis")
    text(from_x + panel_width / 2, from_y + panel_height + 38, "middle", "words", names[kind])
    text(from_x - 44, from_y - 12, "start", "strong", names[row])
}

function series(kind, row, program, does, from_x, from_y,    key, n, path, at_x, at_y) {
    key = kind SUBSEP row SUBSEP program SUBSEP does SUBSEP "line"
    for (n = 1; n <= points[key]; n++)
        path = path sprintf("%s%.1f,%.1f", n > 1 ? " " : "", from_x + panel_width * part(kind, x[key, n]),
            from_y + panel_height * (1 - part(row, y[key, n])))
    printf "<polyline points=\"%s\" class=\"%s %s\"/>\n", path, program, does
    for (n = 1; n <= points[key]; n++) {
        at_x = from_x + panel_width * part(kind, x[key, n])
        point(at_x, from_y + panel_height * (1 - part(row, y[key, n])), program, does, 0)
    }
    key = kind SUBSEP row SUBSEP program SUBSEP does SUBSEP "alone"
    for (n = 1; n <= points[key]; n++) {
        at_x = from_x + panel_width * part(kind, x[key, n])
        point(at_x, from_y + panel_height * (1 - part(row, y[key, n])), program, does, 1)
    }
}

END {
    if (!columns || !("seconds" in low)) { print "growth.awk: the table is empty" > "/dev/stderr"; exit 1 }
    for (r = 1; r <= 2; r++) {
        low[rows[r]] = floor_of(rows[r], low[rows[r]])
        high[rows[r]] = ceiling_of(rows[r], high[rows[r]])
        if (high[rows[r]] == low[rows[r]]) high[rows[r]] = after(rows[r], high[rows[r]])
    }
    # Each amount once, in the order of the table, which goes up.
    for (k = 1; k <= 2; k++) {
        key = kinds[k] SUBSEP "seconds" SUBSEP "tar" SUBSEP "create" SUBSEP "line"
        for (n = 1; n <= points[key]; n++) order[kinds[k], ++amounts[kinds[k]]] = x[key, n]
        # Room on both sides.
        edge = exp(0.06 * log(high[kinds[k]] / low[kinds[k]]))
        if (edge == 1) edge = 2
        low[kinds[k]] /= edge; high[kinds[k]] *= edge
    }
    width = left + 2 * panel_width + gap_x + 30
    height = top + 2 * panel_height + gap_y + 88
    printf "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"Seconds and memory of backup create and backup restore by size and number of files, beside tar\">\n", width, height, width, height
    print "<style>"
    print "svg { color-scheme: light dark; font-family: system-ui, sans-serif; font-size: 12px }"
    print ".back { fill: #ffffff } .words { fill: #424a53 } .strong { fill: #1f2328; font-weight: 600 } .grid { stroke: #d8dee4 } .axis { stroke: #6e7781 }"
    print ".abssctl { stroke: #0969da; fill: #0969da } .tar { stroke: #bc4c00; fill: #bc4c00 }"
    print "polyline, line { fill: none; stroke-width: 2 } .grid, .axis { stroke-width: 1 } line.restore, polyline.restore { stroke-dasharray: 6 4 } polyline.tar, polyline.abssctl { fill: none }"
    print ".hollow { fill: #ffffff; stroke-width: 2 } .full { stroke: none }"
    print "@media (prefers-color-scheme: dark) { .back { fill: #0d1117 } .words { fill: #b1bac4 } .strong { fill: #e6edf3 } .grid { stroke: #30363d } .axis { stroke: #8b949e } .abssctl { stroke: #58a6ff; fill: #58a6ff } .tar { stroke: #f0883e; fill: #f0883e } .hollow { fill: #0d1117 } }"
    print "</style>"
    printf "<rect class=\"back\" width=\"%d\" height=\"%d\" rx=\"6\"/>\n", width, height
    legend(30, 26, "abssctl", "create", 0, "abssctl backup create")
    legend(30, 48, "abssctl", "restore", 0, "abssctl backup restore ID --dest")
    legend(292, 26, "tar", "create", 0, "tar --zstd, sha256sum, sync")
    legend(292, 48, "tar", "restore", 0, "sha256sum, tar --zstd -x, sync")
    if (many) {
        legend(560, 26, "abssctl", "create", 1, "create --threads " many ": memory")
        legend(560, 48, "abssctl", "restore", 1, "restore --threads " many ": memory")
    }
    for (k = 1; k <= 2; k++) for (r = 1; r <= 2; r++) {
        if (!amounts[kinds[k]]) continue
        from_x = left + (k - 1) * (panel_width + gap_x)
        from_y = top + (r - 1) * (panel_height + gap_y)
        axes(kinds[k], rows[r], from_x, from_y)
        series(kinds[k], rows[r], "tar", "create", from_x, from_y)
        series(kinds[k], rows[r], "tar", "restore", from_x, from_y)
        series(kinds[k], rows[r], "abssctl", "create", from_x, from_y)
        series(kinds[k], rows[r], "abssctl", "restore", from_x, from_y)
    }
    text(left, height - 16, "start", "words", made)
    print "</svg>"
}
