# shellcheck shell=bash
# For scripts that train one network after another: they source this file and set `facegen` to the command.

# run_of FOLDER: prints the run folder in it, or nothing.
run_of() {
    compgen -G "$1/[0-9]*" || true
}

finished() {
    grep -qs '"state": "finished"' "$(run_of "$1")/status.json"
}

# once FOLDER ARGUMENT...: runs `facegen ARGUMENT... --outdir FOLDER`, goes on with it, or leaves it if it is finished.
once() {
    local folder=$1
    shift
    if [ -z "$(run_of "$folder")" ]; then
        "$facegen" "$@" --outdir "$folder"
    elif ! finished "$folder"; then
        "$facegen" "$1" --resume "$(run_of "$folder")"
    fi
    # A training that Ctrl-C stops ends without an error, and what comes next must not be made with half of it.
    if ! finished "$folder"; then
        echo "$folder is not finished; run this again to go on" >&2
        exit 1
    fi
}
