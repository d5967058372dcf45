# Sourced: turns '--some-name value' into some_name=value for every variable that is already set; the rest is an error.
# '--set key=value' is collected in the array overrides; '--help' prints the comment at the top of the recipe.
# Directories, and a config that exists, are taken relative to where the user typed the command; in the recipe's own they stay relative.

print_help() {
  sed -n '2,/^[^#]/{/^#/s/^# \{0,1\}//p}' "$0"
  sed -n '/^# Options every recipe has/,/^[^#]/{/^#/s/^# \{0,1\}//p}' "$root/utils/setup.sh"
}

while [ $# -gt 0 ]; do
  case $1 in
    --help | -h)
      print_help
      exit 0
      ;;
    --set)
      overrides+=("${2:?--set needs KEY=VALUE}")
      shift 2
      ;;
    --*)
      option_name=${1#--}
      option_name=${option_name//-/_}
      if ! [[ $option_name =~ ^[a-z_]+$ ]] || [ -z "${!option_name+set}" ]; then
        echo "error: $0 has no option $1; see $0 --help" >&2
        exit 2
      fi
      if [ $# -lt 2 ]; then
        echo "error: option $1 needs a value" >&2
        exit 2
      fi
      if [[ ! $PWD -ef $(dirname "$0") && ($option_name == *_dir && $2 != /* || $option_name == config && -e $PWD/$2) ]]; then
        printf -v "$option_name" '%s' "$(realpath -m "$2")"
      else
        printf -v "$option_name" '%s' "$2"
      fi
      shift 2
      ;;
    *)
      echo "error: $0 takes options only, not '$1'; see $0 --help" >&2
      exit 2
      ;;
  esac
done
for option_name in stage stop_stage; do
  if ! [[ ${!option_name} =~ ^[0-9]+$ ]]; then
    echo "error: --${option_name//_/-} needs a whole number, not '${!option_name}'" >&2
    exit 2
  fi
done
unset option_name
