# Runs PostgreSQL on a copy of the template while the process that started this script holds the
# other end of standard input, which closes however that process ends. Prints the data directory,
# and the end of the log if the server stops.
umask 077
trap : HUP INT TERM PIPE # clean up before exiting
template=$1 postgres=$2
shift 2

problems=
for parent; do
	dir=$(mktemp -d "$parent/dsqltest-XXXXXX" 2>&1) || {
		problems="$problems
$dir"
		dir=
		continue
	}
	copied=$(cp -R "$template/." "$dir" 2>&1) && break
	rm -rf "$dir" # such as a full file system
	problems="$problems
$(echo "$copied" | head -n 1)"
	dir=
done
if [ -z "$dir" ]; then
	echo "user $(id -un 2>/dev/null || id -u) cannot create PostgreSQL's files in any of $*:$problems"
	exit 1
fi
echo "$dir"

# macOS limits a program to 256 files; PostgreSQL there needs one for each connection.
ulimit -S -n 8192 2>/dev/null || ulimit -S -n 4096 2>/dev/null
exec 3<&0 # in the background, 0 is /dev/null
"$postgres" -D "$dir" -k "$dir" >"$dir/log" 2>&1 </dev/null 3<&- &
server=$!
(
	read -r _
	# At first the server ignores QUIT, but not TERM.
	kill -TERM $server
	kill -QUIT $server
	# This is for a supervisor that has been killed.
	while kill -0 $server; do sleep 0.1; done
	rm -rf "$dir"
) <&3 >/dev/null 2>&1 &
watcher=$!
while kill -0 $server 2>/dev/null; do
	wait $server # returns early on a signal
done
kill $watcher 2>/dev/null
tail -n 20 "$dir/log"
rm -rf "$dir"
