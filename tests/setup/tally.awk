# Counts tests by kind from the output of `cargo test` and from nextest's JUnit report.
#
#   property      any test in a module named `proptests`
#   unit          the others in src/ of a crate
#   simulation    the test binary `simulation`
#   real          the test binary `real`
#   integration   every other test binary
#   doc           examples in the documentation
#
# A test that can't run on this machine prints `SKIPPED: ` and the reason, and returns. It is counted as skipped.
#
# A case of the conformance suite prints `CONFORMANCE: rig | case | outcome`, from which the table case × rig is made.

function kind(binary, test) {
    if (binary == "doc") return "doc"
    if (binary == "real" || binary == "simulation") return binary
    if (test ~ /(^|::)proptests::/) return "property"
    return binary == "" ? "unit" : "integration"
}

function record(test, result) {
    results[suite SUBSEP test] = result
    kinds[suite SUBSEP test] = kind(binary, test)
}

function skip(test) {
    if (results[suite SUBSEP test] != "passed") return
    results[suite SUBSEP test] = "skipped"
    sub(/^.*SKIPPED: /, "")
    reasons[suite SUBSEP test] = test ": " $0
}

function add_cell(line,    part) {
    sub(/^.*CONFORMANCE: /, "", line)
    split(line, part, / \| /)
    if (!((part[1]) in column)) { column[part[1]] = ++columns; rig[columns] = part[1] }
    if (!((part[2]) in row)) { row[part[2]] = ++rows; conformance_case[rows] = part[2] }
    if (part[3] == "passed") { cell[part[1], part[2]] = "passed"; return }
    cell[part[1], part[2]] = "n/a"
    sub(/^not applicable: /, "", part[3])
    if (!((part[1] ": " part[3]) in noted)) note[++notes] = part[1] ": " part[3]
    noted[part[1] ": " part[3]] = 1
}

# The name of a rig has a line for each word, so that its column is as narrow as its cells.
function print_rigs(    i, j, lines, word, part) {
    for (j = 1; j <= columns; j++) {
        i = split(rig[j], part, / /)
        if (lines < i) lines = i
        for (; 0 < i; i--) { word[j, i] = part[i]; sub(/,$/, "", word[j, i]) }
    }
    for (i = 1; i <= lines; i++) {
        printf "%-50s", i == 1 ? "conformance of the sources" : ""
        for (j = 1; j <= columns; j++) printf "  %-10s", word[j, i]
        print ""
    }
}

# A case without a cell has not passed: it failed, or its rig was not tested.
function print_conformance(    i, j, value) {
    if (!rows) return
    print ""
    print_rigs()
    for (i = 1; i <= rows; i++) {
        printf "%-50s", conformance_case[i]
        for (j = 1; j <= columns; j++) {
            value = cell[rig[j], conformance_case[i]]
            printf "  %-10s", value == "" ? "NOT PASSED" : value
        }
        print ""
    }
    for (i = 1; i <= notes; i++) print "n/a, " note[i]
}

function attribute(name,    value) {
    value = $0
    sub(".* " name "=\"", "", value)
    sub(/".*/, "", value)
    return value
}

FNR == 1 { junit = /^<\?xml/ }

# cargo test: a heading for each binary, a result for each test, then the output of the tests.
!junit && /^ +(Running|Doc-tests) / { suite = $0 }
!junit && /^ +Running unittests / { binary = "" }
!junit && /^ +Running tests\// { binary = $2; sub(/^tests\//, "", binary); sub(/(\/main)?\.rs$/, "", binary) }
!junit && /^ +Doc-tests / { binary = "doc" }
!junit && /^test .* \.\.\. (ok|FAILED|ignored)/ {
    test = $0
    sub(/^test /, "", test)
    sub(/ \.\.\. .*/, "", test)
    record(test, / \.\.\. ok/ ? "passed" : / \.\.\. FAILED/ ? "failed" : "skipped")
}
!junit && /^---- .* stdout ----$/ { test = $2 }

# JUnit: a suite for each binary, a case for each test, its failure and its output inside.
junit && /^ *<testsuite / {
    suite = binary = attribute("name")
    if (!sub(/^[^:]*::/, "", binary) || binary ~ /^bin\//) binary = ""
}
junit && /^ *<testcase / { test = attribute("name"); record(test, "passed") }
junit && /^ *<(failure|error)[ >]/ { record(test, "failed") }

/SKIPPED: / { skip(test) }
/CONFORMANCE: / { add_cell($0) }

END {
    print_conformance()
    for (id in results) {
        count[kinds[id], results[id]]++
        total[results[id]]++
    }
    printf "\n%-12s %7s %7s %7s\n", "kind", "passed", "failed", "skipped"
    names = split("unit property simulation integration real doc", order, " ")
    for (i = 1; i <= names; i++) {
        name = order[i]
        printf "%-12s %7d %7d %7d\n", name, count[name, "passed"], count[name, "failed"], count[name, "skipped"]
    }
    for (id in reasons) print "skipped " reasons[id]
    printf "\n%d passed, %d failed, %d skipped\n", total["passed"], total["failed"], total["skipped"]
    if (total["failed"] > 0) exit 1
}
