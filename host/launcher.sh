#!/system/bin/sh
# run.sh ARGUMENTS: the bundle's own Python through its own loader, whatever libraries the system has.
# $CHAMNET_AGENT_HOME, if set, is a further folder to import from. The build puts the loader's name in.
case $0 in */*) B=${0%/*} ;; *) B=. ;; esac
B=$(unset CDPATH; cd -- "$B" && pwd) || exit 127
unset LD_PRELOAD LD_LIBRARY_PATH LD_AUDIT PYTHONSTARTUP PYTHONPLATLIBDIR
export PYTHONHOME="$B" PYTHONPATH="$B/site${CHAMNET_AGENT_HOME:+:$CHAMNET_AGENT_HOME}"
export PYTHONNOUSERSITE=1 PYTHONSAFEPATH=1 PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 LC_ALL=C.UTF-8
export TMPDIR="${TMPDIR:-${B%/*}}"
export HOME="$TMPDIR"
exec "$B/lib/@LOADER@" --inhibit-cache --library-path "$B/lib" --argv0 "$B/bin/python3" "$B/bin/python3" -s "$@"
